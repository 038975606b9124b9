// As much of Unity's interface as the components in Unity/ use, so that they compile and run in the tests: frames are calls of Frame.
using System;
using System.Collections.Generic;
using System.Reflection;

namespace UnityEngine
{
    public class TooltipAttribute : Attribute { public TooltipAttribute(string text) { } }
    public class TextAreaAttribute : Attribute { }

    public static class Application { public static string streamingAssetsPath = ""; }

    public static class Debug
    {
        public static readonly List<string> Errors = new List<string>();
        public static void LogError(object message, object context) => Errors.Add(message.ToString());
    }

    public class MonoBehaviour
    {
        /// <summary>Calls what Unity would call: "OnEnable", "Update", "OnDisable".</summary>
        public void Send(string message) =>
            GetType().GetMethod(message, BindingFlags.Instance | BindingFlags.NonPublic)?.Invoke(this, null);
    }
}

namespace UnityEngine.Events
{
    public class UnityEvent
    {
        private Action actions = delegate { };
        public void AddListener(Action action) => actions += action;
        public void Invoke() => actions();
    }

    public class UnityEvent<T>
    {
        private Action<T> actions = delegate { };
        public void AddListener(Action<T> action) => actions += action;
        public void Invoke(T value) => actions(value);
    }
}
