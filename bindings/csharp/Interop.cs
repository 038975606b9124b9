// Statuses, errors, and what goes between two memories: used by all classes of the binding.
using System;
using System.Collections.Generic;
using System.Runtime.InteropServices;
using System.Text;

namespace Inference
{
    public enum Status : uint
    {
        OK, InvalidArgument, InvalidHandle, Abi, Busy, BufferTooSmall, Io, Format, Unsupported, OutOfMemory, Budget, NoDevice, DeviceLost, ContextFull,
        Constraint, DeadEnd, Template, StateMismatch, Poisoned, Cancelled, Timeout, Internal, NotReady, Shutdown, Forked,
    }

    /// <summary>What a call reports: a status, a sentence, and two numbers that inference.h explains at the status.</summary>
    public sealed class InferenceException : Exception
    {
        public Status Status { get; }
        public long Detail0 { get; }
        public long Detail1 { get; }

        internal InferenceException(Status status, string message, long detail0 = 0, long detail1 = 0) : base(status + ": " + message)
        {
            Status = status;
            Detail0 = detail0;
            Detail1 = detail1;
        }
    }

    /// <summary>Calls, errors, and texts on their way between two memories.</summary>
    internal static class Call
    {
        [ThreadStatic] private static byte[] error;

        /// <summary>The inf_error of this thread.</summary>
        internal static byte[] Error => error ?? (error = new byte[Native.ErrorBytes]);

        internal static InferenceException Exception(Status status)
        {
            byte[] e = Error;
            return new InferenceException(status, Text(e, Native.ErrorMessage), BitConverter.ToInt64(e, 0), BitConverter.ToInt64(e, 8));
        }

        /// <summary>Throws what a call reports.</summary>
        internal static void Check(uint status)
        {
            if (status != 0) throw Exception((Status)status);
        }

        internal static byte[] Bytes(string text) => text == null ? null : Encoding.UTF8.GetBytes(text);

        /// <summary>UTF-8 with a NUL behind it.</summary>
        internal static byte[] Terminated(string text) => Encoding.UTF8.GetBytes(text + "\0");

        internal static UIntPtr Length(Array array) => new UIntPtr(array == null ? 0u : (uint)array.Length);

        /// <summary>The text in bytes from `start` to its NUL.</summary>
        internal static string Text(byte[] bytes, int start = 0)
        {
            int end = Array.IndexOf(bytes, (byte)0, start);
            return Encoding.UTF8.GetString(bytes, start, (end < 0 ? bytes.Length : end) - start);
        }

        internal static byte[] Copy(IntPtr from, UIntPtr length)
        {
            var bytes = new byte[(int)length];
            if (bytes.Length > 0) Marshal.Copy(from, bytes, 0, bytes.Length);
            return bytes;
        }

        internal static string Text(IntPtr terminated)
        {
            int n = 0;
            while (Marshal.ReadByte(terminated, n) != 0) n++;
            return Encoding.UTF8.GetString(Copy(terminated, new UIntPtr((uint)n)));
        }

        internal delegate uint Fill<T>(T[] buffer, UIntPtr capacity, out UIntPtr length);

        /// <summary>What a call writes into a buffer: at once if `guess` elements are enough, else once more.</summary>
        internal static T[] Buffered<T>(int guess, Fill<T> fill)
        {
            while (true)
            {
                var buffer = new T[guess];
                uint status = fill(buffer, new UIntPtr((uint)guess), out UIntPtr length);
                if ((Status)status == Status.BufferTooSmall)
                {
                    guess = (int)length + 1;
                    continue;
                }
                Check(status);
                Array.Resize(ref buffer, (int)length);
                return buffer;
            }
        }
    }

    /// <summary>Memory of arrays and texts that a struct points to, pinned until it is disposed.</summary>
    internal sealed class Pins : IDisposable
    {
        private readonly List<GCHandle> pinned = new List<GCHandle>();

        internal IntPtr Add(object array)
        {
            if (array == null) return IntPtr.Zero;
            GCHandle handle = GCHandle.Alloc(array, GCHandleType.Pinned);
            pinned.Add(handle);
            return handle.AddrOfPinnedObject();
        }

        public void Dispose()
        {
            foreach (GCHandle handle in pinned) handle.Free();
            pinned.Clear();
        }
    }

    /// <summary>Owns one handle. It is freed once, not during a call that uses it.</summary>
    public abstract class Handle : SafeHandle
    {
        internal Handle() : base(IntPtr.Zero, true) { }

        internal Handle(IntPtr made) : this() => SetHandle(made);

        public override bool IsInvalid => handle == IntPtr.Zero;
    }
}
