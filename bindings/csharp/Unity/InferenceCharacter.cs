// A character that talks: Ask starts an answer, onText gets it piece by piece, once per frame.
using System;
using System.Text;
using UnityEngine;
using UnityEngine.Events;

namespace Inference.Unity
{
    [Serializable]
    public sealed class TextEvent : UnityEvent<string> { }

    public sealed class InferenceCharacter : MonoBehaviour
    {
        public InferenceModel model;

        [TextArea] public string persona = "You are Mara, a baker in a small town.";

        public uint maxTokens = 120;
        public TextEvent onText = new TextEvent();
        public UnityEvent onEnd = new UnityEvent();

        private Session session;
        private Generation generation;

        public bool IsTalking => generation != null;

        /// <summary>Asks; what is still being said is cut off. False while the model loads.</summary>
        public bool Ask(string question)
        {
            if (model == null || model.Model == null) return false;
            Stop();
            if (session == null) session = model.Model.NewSession();
            string messages = "[{\"role\":\"system\",\"content\":" + Quoted(persona) + "},{\"role\":\"user\",\"content\":" + Quoted(question) + "}]";
            generation = session.Chat(messages, maxTokens);
            return true;
        }

        public void Stop()
        {
            generation?.Dispose();
            generation = null;
        }

        private void Update()
        {
            while (generation != null)
            {
                Inference.Event e = generation.Poll();
                switch (e.Type)
                {
                    case Inference.EventType.None:
                        return;
                    case Inference.EventType.Text:
                        onText.Invoke(e.Text);
                        break;
                    case Inference.EventType.Done:
                        if (e.Finish == Finish.Error) Debug.LogError(e.Text, this);
                        Stop();
                        onEnd.Invoke();
                        break;
                }
            }
        }

        private void OnDisable()
        {
            Stop();
            session?.Dispose();
            session = null;
        }

        /// <summary>A text as a JSON string.</summary>
        private static string Quoted(string text)
        {
            var json = new StringBuilder("\"");
            foreach (char c in text)
            {
                if (c == '"' || c == '\\') json.Append('\\').Append(c);
                else if (c < ' ') json.AppendFormat("\\u{0:x4}", (int)c);
                else json.Append(c);
            }
            return json.Append('"').ToString();
        }
    }
}
