// Tests of the C# binding. Arguments: "signatures" and "places" print what the binding declares, for comparison with the header; else the path of a model.
using System;
using System.Collections.Generic;
using System.IO;
using System.Reflection;
using System.Runtime.InteropServices;
using System.Text;
using System.Threading;
using Inference;
using Inference.Unity;

internal static class Test
{
    private static void Check(bool condition, string what)
    {
        if (!condition) throw new Exception("failed: " + what);
    }

    /// <summary>A call that must fail with `status`.</summary>
    private static void Fails(Status status, Action call)
    {
        try
        {
            call();
        }
        catch (InferenceException e)
        {
            Check(e.Status == status && e.Message.Length > 8, status + " expected, not " + e.Message);
            return;
        }
        throw new Exception("failed: " + status + " expected");
    }

    private static string Kind(Type type)
    {
        if (type == typeof(void)) return "void";
        if (type == typeof(uint)) return "u32";
        if (type == typeof(int)) return "i32";
        if (type == typeof(ulong)) return "u64";
        if (type == typeof(float)) return "f32";
        return type == typeof(UIntPtr) ? "size" : "pointer";
    }

    /// <summary>Each function: name, result, parameters, as the header's are written in test.sh.</summary>
    private static void Signatures()
    {
        foreach (MethodInfo method in typeof(Runtime).Assembly.GetType("Inference.Native").GetMethods(BindingFlags.Static | BindingFlags.NonPublic))
        {
            var line = new StringBuilder(method.Name + " " + Kind(method.ReturnType));
            foreach (ParameterInfo p in method.GetParameters()) line.Append(' ').Append(Kind(p.ParameterType));
            Console.WriteLine(line);
        }
    }

    private static void Places()
    {
        foreach (Type type in typeof(Runtime).Assembly.GetTypes())
        {
            if (!type.Name.StartsWith("inf_")) continue;
            foreach (FieldInfo field in type.GetFields(BindingFlags.Instance | BindingFlags.NonPublic))
            {
                if (!field.Name.StartsWith("cpu_mask_")) Console.WriteLine(type.Name + "." + field.Name + " at " + Marshal.OffsetOf(type, field.Name));
            }
            Console.WriteLine(type.Name + " " + Marshal.SizeOf(type));
        }
        Console.WriteLine("inf_error.status at 16\ninf_error.message at 24\ninf_error 512");
        foreach (Status status in Enum.GetValues(typeof(Status))) Console.WriteLine(Runtime.NameOf(status) + " " + (uint)status);
    }

    private static string Say(Session session, Sampler sampler, uint n)
    {
        var said = new StringBuilder();
        foreach (Event e in session.Start(new Request { Text = "The smith", MaxTokens = n, Sampler = sampler })) said.Append(e.Text);
        return said.ToString();
    }

    private static void Generations(Model model)
    {
        using (Session session = model.NewSession())
        using (Sampler greedy = model.NewSampler())
        {
            string said = Say(session, greedy, 24);
            Check(said.Length > 10, "it says something");
            byte[] state = session.Save();
            int count = session.Count;
            session.Truncate(0);
            Check(Say(session, greedy, 24) == said && session.Count == count, "the same again");
            session.Truncate(0);
            session.Restore(state);
            Check(session.Count == count, "restored");
            Fails(Status.StateMismatch, () => session.Restore(new byte[100]));
            session.Truncate(0);

            // One's own loop says the same.
            int[] prompt = model.Tokenize("The smith");
            session.Append(prompt);
            var tokens = new List<int>();
            while (tokens.Count < 6) tokens.Add(session.Step(greedy).Token);
            Check(said.StartsWith(Encoding.UTF8.GetString(model.Detokenize(tokens.ToArray(), TokenFlags.Continues))), "step by step");
            Fails(Status.NotReady, () => session.Logits());
            session.Step();
            Check(session.Logits().Length == model.Info.Vocabulary, "logits");
            Fails(Status.InvalidArgument, () => session.Append(new[] { -5 }));
            Fails(Status.Template, () => model.RenderChat("[{\"role\":\"user\",\"content\":\"x\"}]", null, "{\"chat_template\":\"{{ raise_exception('no') }}\"}"));
            Check(model.RenderChat("[{\"role\":\"user\",\"content\":\"H\u00fctte\"}]").Contains("H\u00fctte"), "UTF-8 there and back");
        }
        using (Session session = model.NewSession())
        // A queue of one event, so that it has not ended before it is looked at.
        using (Generation generation = session.Start(new Request { Text = "The smith", MaxTokens = 200, QueueCapacity = 1 }))
        {
            Fails(Status.Busy, () => session.Append(new[] { 5 }));
            generation.Cancel();
            Event e;
            do e = generation.Poll(-1);
            while (e.Type != Inference.EventType.Done);
            Check(e.Finish == Finish.Cancelled, "cancelled");
        }
        using (Session session = model.NewSession())
        using (Generation generation = session.StartJson("{\"text\":\"The smith\",\"max_tokens\":3}"))
        {
            int tokens = 0;
            foreach (Event e in generation) tokens += e.Tokens.Length;
            Check(tokens == 3, "three tokens");
        }
    }

    /// <summary>A constrained answer, and the probabilities of its tokens.</summary>
    private static void Probabilities(Model model)
    {
        const string format = "{\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"schema\":{\"enum\":[\"yes\",\"no\"]}}}}";
        using (Session session = model.NewSession())
        using (Generation generation = session.Start(new Request { Text = "Is it?", OptionsJson = format, TopLogprobs = 2 }))
        {
            var said = new StringBuilder();
            int tokens = 0, told = 0;
            foreach (Event e in generation)
            {
                if (e.Type == Inference.EventType.Text) said.Append(e.Text);
                tokens += e.Tokens.Length;
                told += e.LogprobsJson.Split(new[] { "\"top_logprobs\":" }, StringSplitOptions.None).Length - 1;
            }
            Check(said.ToString() == "\"yes\"" || said.ToString() == "\"no\"", "as the schema says");
            Check(tokens > 0 && told == tokens, "one probability per token");
        }
        using (Session session = model.NewSession())
        using (Generation generation = session.StartJson("{\"text\":\"The smith\",\"max_tokens\":2}"))
            foreach (Event e in generation) Check(e.LogprobsJson == "", "none unless asked for");
        Fails(Status.InvalidArgument, () => model.NewSession().Start(new Request { Text = "x", TopLogprobs = 21 }));
    }

    /// <summary>Everything is left to the collector, in any order, while other threads talk.</summary>
    private static void Collected(string path)
    {
        var threads = new List<Thread>();
        var said = new HashSet<string>();
        Model model = new Runtime().Load(path);
        for (int t = 0; t < 4; t++)
        {
            var thread = new Thread(() =>
            {
                for (int i = 0; i < 5; i++)
                {
                    string text = Say(model.NewSession(), model.NewSampler(), 12);
                    lock (said) said.Add(text);
                    GC.Collect();
                }
            });
            thread.Start();
            threads.Add(thread);
        }
        foreach (Thread thread in threads) thread.Join();
        model = null;
        GC.Collect();
        GC.WaitForPendingFinalizers();
        Check(said.Count == 1, "threads say the same");
    }

    /// <summary>The components in a scene: frames until both have loaded and talked.</summary>
    private static void Scene(string path, bool hostDriven)
    {
        UnityEngine.Debug.Errors.Clear();
        var model = new InferenceModel { file = path, hostDriven = hostDriven };
        var character = new InferenceCharacter { model = model };
        string said = "";
        bool ended = false, asked = false;
        character.onText.AddListener(text => said += text);
        character.onEnd.AddListener(() => ended = true);
        Check(!character.Ask("Hello!"), "not before it is loaded");
        model.Send("OnEnable");
        for (int frame = 0; frame < 100000 && !ended; frame++)
        {
            model.Send("Update");
            character.Send("Update");
            if (!asked) asked = character.Ask("What do you \"sell\"?\n");
            if (!hostDriven) Thread.Sleep(1);
        }
        Check(ended && said.Length > 3 && UnityEngine.Debug.Errors.Count == 0, "a character talks");
        character.Ask("And then?");
        character.Send("OnDisable");
        model.Send("OnDisable");
        Check(model.Model == null && !character.IsTalking, "all is freed");
    }

    private static int Main(string[] arguments)
    {
        if (arguments[0] == "signatures") Signatures();
        else if (arguments[0] == "places") Places();
        else
        {
            string path = arguments[0];
            using (var runtime = new Runtime(new RuntimeOptions { Threads = 2, LogLevel = 3 }))
            {
                Check(Runtime.Version.Length > 0 && Runtime.BuildInfoJson.StartsWith("{"), "version");
                Check(runtime.Devices[0].Id == "cpu" && runtime.Devices[0].Usable, "devices");
                Check(runtime.NextLog(out uint level) != null && level > 0, "log");
                Plan plan = runtime.Estimate(path, 128);
                Check(plan.Fits && plan.Context == 128 && plan.Host > plan.Weights, "estimate");
                Fails(Status.Io, () => runtime.Load("no/such/file.gguf"));
                Fails(Status.InvalidArgument, () => new Runtime(new RuntimeOptions { Json = "{\"flavour\":1}" }));
                using (Model model = runtime.Load(path, "{\"n_ctx\":256}"))
                {
                    Check(model.Info.CanGenerate && model.Info.Architecture == model.Metadata("general.architecture"), "info");
                    Check(runtime.Memory.Host >= plan.Weights, "memory");
                    Generations(model);
                    Probabilities(model);
                }
                runtime.Shutdown();
                Fails(Status.Shutdown, () => runtime.Load(path));
            }
            Collected(path);
            Scene(path, false);
            Scene(path, true);
            UnityEngine.Application.streamingAssetsPath = "/no/such/folder";
            var broken = new InferenceModel();
            broken.Send("OnEnable");
            for (int i = 0; i < 10000 && UnityEngine.Debug.Errors.Count == 0; i++) { broken.Send("Update"); Thread.Sleep(1); }
            Check(UnityEngine.Debug.Errors.Count == 1, "what is wrong is told");
            broken.Send("OnDisable");
        }
        return 0;
    }
}
