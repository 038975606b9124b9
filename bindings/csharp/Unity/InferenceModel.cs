// A model in a Unity scene: put it on one object, and give it to the characters. Nothing here waits for anything.
using System.IO;
using UnityEngine;

namespace Inference.Unity
{
    public sealed class InferenceModel : MonoBehaviour
    {
        [Tooltip("Below StreamingAssets, or an absolute path.")]
        public string file = "model.gguf";

        [Tooltip("Off: worker threads compute. On: no threads; each frame works for the time below.")]
        public bool hostDriven;

        public uint microsecondsPerFrame = 2000;

        private Runtime runtime;
        private Load load;

        /// <summary>The model; null while it loads.</summary>
        public Model Model { get; private set; }

        /// <summary>How much has been read, 0 to 1: for a loading screen.</summary>
        public float Progress => load == null ? 0 : load.Progress;

        private void OnEnable()
        {
            runtime = new Runtime(new RuntimeOptions { HostDriven = hostDriven, ThreadPriority = hostDriven ? 0 : -1 });
            load = runtime.StartLoad(Path.Combine(Application.streamingAssetsPath, file));
        }

        private void Update()
        {
            if (hostDriven) runtime.Pump(microsecondsPerFrame);
            if (Model != null || load == null) return;
            try
            {
                Model = load.Poll();
            }
            catch (InferenceException failure)
            {
                Debug.LogError(failure.Message, this);
                load.Dispose();
                load = null;
            }
        }

        // Also before a domain reload: the threads end here, and what characters still hold can be freed at any time.
        private void OnDisable()
        {
            load?.Dispose();
            Model?.Dispose();
            runtime?.Shutdown();
            runtime?.Dispose();
            load = null;
            Model = null;
        }
    }
}
