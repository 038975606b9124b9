// libinference for C# and Unity.
//
//     using (var runtime = new Runtime())
//     using (var model = runtime.Load("model.gguf"))
//     using (var session = model.NewSession())
//         foreach (var e in session.Generate("Once upon a time", 64)) Console.Write(e.Text);
//
// Objects may be disposed in any order, from any thread, or left to the collector. What fails throws InferenceException. In a game nothing waits:
// Runtime.StartLoad and Load.Poll, Session.Ask and Generation.Poll once per frame. inference.h is the manual.
using System;
using System.Collections.Generic;
using System.Runtime.InteropServices;
using System.Text;

namespace Inference
{
    public enum KvType : uint { Auto, F32, F16, Q8_0 }

    /// <summary>What a runtime holds, in bytes.</summary>
    public struct Memory
    {
        public ulong Host, HostPeak, HostLeft;
    }

    /// <summary>One device of this machine; where it is not usable, Reason says why.</summary>
    public struct Device
    {
        public string Id, Name, Reason;
        public bool Usable;
        public ulong MemoryTotal, MemoryFree;
    }

    /// <summary>What a model will need, in bytes.</summary>
    public struct Plan
    {
        public bool Fits;
        public uint Layers, Context, LayersOnDevice;
        public ulong Weights, KvPerToken, Kv, Scratch, Host, OnDevice;
        /// <summary>Of most layers: "cpu", "cuda:0".</summary>
        public string Device;
    }

    /// <summary>What a runtime is made with; zero means default.</summary>
    public sealed class RuntimeOptions
    {
        public uint Threads, SpinMicroseconds, LogLevel;
        public bool HostDriven;
        public int ThreadPriority;
        public ulong CpuMask, HostMemoryLimit;
        public string Json;
    }

    /// <summary>Threads, devices, log. Any number may exist.</summary>
    public sealed class Runtime : Handle
    {
        public Runtime(RuntimeOptions options = null)
        {
            RuntimeOptions o = options ?? new RuntimeOptions();
            byte[] json = Call.Bytes(o.Json);
            using (var pins = new Pins())
            {
                var p = new inf_runtime_params
                {
                    struct_size = (uint)Marshal.SizeOf(typeof(inf_runtime_params)), n_threads = o.Threads, host_driven = o.HostDriven ? 1u : 0u,
                    thread_priority = o.ThreadPriority, cpu_mask = o.CpuMask, host_memory_limit = o.HostMemoryLimit, spin_us = o.SpinMicroseconds,
                    log_level = o.LogLevel, options_json = pins.Add(json), options_len = Call.Length(json),
                };
                Call.Check(Native.inf_runtime_create(ref p, out IntPtr made, Call.Error));
                SetHandle(made);
            }
        }

        /// <summary>The version of the library.</summary>
        public static string Version => Call.Text(Native.inf_version());

        /// <summary>What the library can do, as JSON.</summary>
        public static string BuildInfoJson => Call.Text(Native.inf_build_info_json());

        /// <summary>The name that inference.h has for a status.</summary>
        public static string NameOf(Status status) => Call.Text(Native.inf_status_name((uint)status));

        protected override bool ReleaseHandle()
        {
            Native.inf_runtime_free(handle);
            return true;
        }

        /// <summary>Cancels what runs and joins the threads; -1 waits until it is done.</summary>
        public void Shutdown(int timeoutMs = -1) => Call.Check(Native.inf_runtime_shutdown(this, timeoutMs, Call.Error));

        /// <summary>In a host-driven runtime: works for about that many microseconds; true if there is more to do.</summary>
        public bool Pump(uint budgetMicroseconds)
        {
            Call.Check(Native.inf_runtime_pump(this, budgetMicroseconds, out uint more, Call.Error));
            return more != 0;
        }

        /// <summary>The oldest log line that waits, or null.</summary>
        public string NextLog(out uint level)
        {
            uint found = 0;
            byte[] line = Call.Buffered(512, (byte[] buffer, UIntPtr capacity, out UIntPtr length) =>
                Native.inf_runtime_next_log(this, buffer, capacity, out length, out found, Call.Error));
            level = found;
            return found == 0 ? null : Encoding.UTF8.GetString(line);
        }

        public Memory Memory
        {
            get
            {
                var m = new inf_memory { struct_size = (uint)Marshal.SizeOf(typeof(inf_memory)) };
                Call.Check(Native.inf_runtime_memory(this, ref m, Call.Error));
                return new Memory { Host = m.host, HostPeak = m.host_peak, HostLeft = m.host_left };
            }
        }

        public List<Device> Devices
        {
            get
            {
                var all = new List<Device>();
                for (uint i = 0, n = Native.inf_device_count(this); i < n; i++)
                {
                    var d = new inf_device_info { struct_size = (uint)Marshal.SizeOf(typeof(inf_device_info)) };
                    Call.Check(Native.inf_device_get(this, i, ref d, Call.Error));
                    all.Add(new Device
                    {
                        Id = Call.Text(d.id), Name = Call.Text(d.name), Reason = Call.Text(d.reason), Usable = d.usable != 0,
                        MemoryTotal = d.memory_total, MemoryFree = d.memory_free,
                    });
                }
                return all;
            }
        }

        /// <summary>What the model at path will need, from the header of its file.</summary>
        public Plan Estimate(string path, uint context = 0, KvType kv = KvType.Auto)
        {
            using (var pins = new Pins())
            {
                var source = new inf_source { struct_size = (uint)Marshal.SizeOf(typeof(inf_source)), path = pins.Add(Call.Terminated(path)) };
                var sources = new[] { pins.Add(source) };
                var p = new inf_model_params
                {
                    struct_size = (uint)Marshal.SizeOf(typeof(inf_model_params)), n_sources = 1, sources = pins.Add(sources), n_ctx_hint = context, kv_type = (uint)kv,
                };
                var plan = new inf_plan { struct_size = (uint)Marshal.SizeOf(typeof(inf_plan)) };
                Call.Check(Native.inf_model_estimate(this, ref p, ref plan, Call.Error));
                return new Plan
                {
                    Fits = plan.fits != 0, Layers = plan.n_layers, Context = plan.n_ctx, Weights = plan.weights_bytes, KvPerToken = plan.kv_bytes_per_token,
                    Kv = plan.kv_bytes, Scratch = plan.scratch_bytes, Host = plan.host_bytes,
                    OnDevice = plan.device_bytes, LayersOnDevice = plan.n_layers_on_device, Device = Call.Text(plan.device),
                };
            }
        }

        /// <summary>Starts to load; never waits. options: the JSON of inf_load_start_path.</summary>
        public Load StartLoad(string path, string optionsJson = null) => new Load(this, path, optionsJson);

        /// <summary>Loads; waits until it is done.</summary>
        public Model Load(string path, string optionsJson = null)
        {
            using (Load load = StartLoad(path, optionsJson)) return load.Wait();
        }
    }
}
