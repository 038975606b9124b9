"""Tests of inference.py: signatures and structs against inference.h, then the shipped model (or INF_MODEL)."""

import ctypes
import json
import os
import re
import subprocess
import tempfile
import threading
import unittest
from pathlib import Path

import inference
from inference import EV_DONE, EV_NONE, Error, Runtime

ROOT = Path(__file__).resolve().parents[2]
HEADER = (ROOT / "include/inference.h").read_text()
MODEL = os.environ.get("INF_MODEL", str(ROOT / "models/demo.gguf"))
NUMBERS = {
    "int32_t": ctypes.c_int32, "inf_token": ctypes.c_int32, "uint32_t": ctypes.c_uint32, "inf_status": ctypes.c_uint32, "uint64_t": ctypes.c_uint64,
    "size_t": ctypes.c_size_t, "float": ctypes.c_float, "void": None,
}  # fmt: skip


def prototypes():
    """{name: (result, [parameters])} of the header, in C."""
    found = re.findall(r"^INF_API ([^(]*?)(inf_\w+)\(([^;]*)\);", HEADER, re.M)
    return {name: (result.strip(), [] if p == "void" else [" ".join(a.split()) for a in p.split(",")]) for result, name, p in found}


def fits(declared, c: str) -> bool:
    """Whether a ctypes type is that of a parameter or result: pointers for pointers, the same numbers for numbers."""
    if "*" in c:
        pointer = declared in (ctypes.c_void_p, ctypes.c_char_p) or hasattr(declared, "contents")
        return pointer and (declared is not ctypes.c_char_p or re.match(r"const (char|void) \*", c))
    return declared is NUMBERS[c.split()[0]]


class AgainstTheHeader(unittest.TestCase):
    def test_functions(self):
        header = prototypes()
        self.assertGreater(len(header), 40)
        declared = {name: (ctypes.c_uint32, *arguments, ctypes.POINTER(inference.inf_error)) for name, arguments in inference.FALLIBLE.items()}
        for name, (result, *arguments) in (declared | inference.INFALLIBLE).items():
            c_result, parameters = header[f"inf_{name}"]
            self.assertEqual(len(arguments), len(parameters), name)
            self.assertTrue(fits(result, c_result), f"{name} gives {c_result}")
            for mine, theirs in zip(arguments, parameters):
                self.assertTrue(fits(mine, theirs), f"{name}: {mine} is not {theirs}")

    def test_structs(self):
        """Sizes and offsets, as a C compiler sees them."""
        structs = [inference.inf_error, *inference.Struct.__subclasses__()]
        lines, mine = [], []
        for struct in structs:
            name = struct.__name__
            lines.append(f'printf("{name} %zu\\n", sizeof({name}));')
            mine.append(f"{name} {ctypes.sizeof(struct)}")
            for field, _ in struct._fields_:
                at = getattr(struct, field)
                c = field.lstrip("_")
                lines.append(f'printf("{name}.{c} %zu %zu\\n", offsetof({name}, {c}), sizeof((({name} *)0)->{c}));')
                mine.append(f"{name}.{c} {at.offset} {at.size}")
        source = '#include "inference.h"\n#include <stdio.h>\nint main(void) {\n' + "\n".join(lines) + "\n}\n"
        with tempfile.TemporaryDirectory() as folder:
            program = Path(folder) / "layout"
            command = [os.environ.get("CC", "cc"), "-x", "c", "-", "-I", str(ROOT / "include"), "-o", str(program)]
            subprocess.run(command, input=source, text=True, check=True)
            theirs = subprocess.run([program], capture_output=True, text=True, check=True).stdout.splitlines()
        self.assertEqual(mine, theirs)

    def test_numbers(self):
        defined = dict(re.findall(r"^#define INF_(\w+) \(?(-?\d+)u?\)?", HEADER, re.M))
        for name, value in vars(inference).items():
            if name.isupper() and isinstance(value, int):
                self.assertEqual(value, int(defined[name]), name)
        finishes = {name[7:].lower(): int(value) for name, value in defined.items() if name.startswith("FINISH_")}
        self.assertEqual({name: value for value, name in inference.FINISH.items()}, finishes)


class WithTheModel(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.model = inference.load(MODEL)

    def test_load(self):
        load = Runtime(n_threads=2).start_load(MODEL, n_ctx=128)
        model = None
        while model is None:
            model = load.poll(1)
        self.assertEqual(load.progress, 1)
        self.assertEqual(model.metadata("general.architecture"), model.info().architecture.decode())
        with self.assertRaisesRegex(Error, "no/such/file.gguf") as caught:
            inference.load("no/such/file.gguf")
        self.assertEqual(caught.exception.name, "INF_ERR_IO")
        with self.assertRaisesRegex(Error, "flavour"):
            inference.load(MODEL, flavour="sweet")
        with self.assertRaisesRegex(TypeError, "flavour"):
            model.session(flavour=1)
        self.assertIn(inference.version(), inference.build_info().values())

    def test_generate(self):
        greedy, session = self.model.sampler(), self.model.session()
        events = list(session.generate("The smith", max_tokens=24, sampler=greedy))
        text, end = "".join(event.text for event in events), events[-1]
        self.assertTrue(text and end.type == EV_DONE and end.finish in ("max_tokens", "eos"))
        self.assertEqual(len(session), end.usage.prompt_tokens + end.usage.output_tokens)
        tokens = [token for event in events for token in event.tokens]
        self.assertEqual(self.model.detokenize(tokens, inference.TOK_CONTINUES).decode(), text)

        polled, generation = "", self.model.session().generate("The smith", max_tokens=24, sampler=greedy)
        event = generation.next(0)
        while event.type != EV_DONE:
            polled += event.text
            event = generation.next(0 if event.type != EV_NONE else 1)
        self.assertEqual(polled, text)

        session.truncate(0)
        self.assertNotIn(" ", session.generate("The smith", stop=['"', " "], sampler=greedy).text())
        with self.assertRaisesRegex(Error, "INF_ERR_CONTEXT_FULL"):
            self.model.session(n_ctx=4).generate("The smith went to the forge and found no iron").text()
        generation = session.generate(" and")
        with self.assertRaisesRegex(Error, "INF_ERR_BUSY"):
            session.truncate(0)
        generation.cancel()
        self.assertIn([event for event in generation][-1].finish, ("cancelled", "eos", "context_full"))

    def test_own_loop(self):
        prompt = self.model.tokenize("The smith")
        self.assertEqual(self.model.detokenize(prompt), b"The smith")
        long = "ümlaut 火 " * 1000
        self.assertEqual(self.model.detokenize(self.model.tokenize(long)).decode(), long)
        session = self.model.session()
        session.append(prompt)
        self.assertEqual(session.step().token, -1)
        logits = session.logits()
        self.assertEqual(len(logits), self.model.info().n_vocab)
        chain = self.model.sampler(seed=7, penalties=(64, 1.1, 0.0, 0.0), top_k=40, top_p=0.95, min_p=0.05, temperature=0.8)
        twin = chain.clone()
        first = chain.pick(logits)
        self.assertEqual(first, twin.pick(logits))
        self.assertEqual(self.model.sampler().pick(logits), max(range(len(logits)), key=lambda i: logits[i]))
        self.assertTrue(self.model.token_bytes(first) and not self.model.is_eog(first))
        chain.reset()
        chain.accept(first)
        fork = session.fork()
        fork.append([first])
        self.assertEqual((len(fork), fork.step(chain, budget_us=10**7).state), (len(session) + 1, inference.STEP_TOKEN))

    def test_chats_samplers_states(self):
        messages, options = [{"role": "user", "content": "Who are <you>?"}], {"chat_template": "{{ messages[0].content }} I am"}
        self.assertEqual(self.model.render_chat(messages, options=options), "Who are <you>? I am")
        chain = self.model.sampler(typical_p=0.9, top_n_sigma=2, xtc=(0.1, 0.1), dynamic_temperature=(0.5, 1, 1), mirostat=(5, 0.1))
        chain.add_logit_bias({5: -1.0})
        chain.add_dry(0.8, 1.75, 2, 64, ["\n"])
        with self.assertRaisesRegex(Error, "heat"):
            self.model.sampler_from({"heat": 1})
        session = self.model.session(overflow=inference.OVERFLOW_SHIFT, n_keep=32)
        self.assertTrue(session.chat(messages, options=options, max_tokens=8, sampler=chain).text())
        schema = {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"], "additionalProperties": False}
        answer = {"response_format": {"type": "json_schema", "json_schema": {"schema": schema}}}
        events = list(self.model.session().chat(messages, options=options | answer, max_tokens=40, top_logprobs=1))
        self.assertIn(json.loads("".join(event.text for event in events if event.type == inference.EV_TEXT)), ({"n": 1}, {"n": 2}))
        self.assertEqual(sum(len(event.logprobs) for event in events), events[-1].usage.output_tokens)
        only = self.model.sampler()
        only.set_constraint("json_schema", {"const": 7})
        with self.assertRaisesRegex(Error, "INF_ERR_CONSTRAINT"):
            only.set_constraint("regex", "(")
        copy = self.model.session()
        copy.restore(session.save())
        self.assertEqual(len(copy), len(session))
        with self.assertRaisesRegex(Error, "INF_ERR_STATE_MISMATCH"):
            copy.restore(b"not a state")
        with tempfile.TemporaryDirectory() as folder:
            session.save_file(Path(folder) / "köln.state")
            copy.restore_file(Path(folder) / "köln.state")
            self.model.save_gguf(Path(folder) / "köln.gguf")
            again = inference.load(Path(folder) / "köln.gguf", quantize="q8_0", topology=[{"layers": "0-1", "quantize": "none"}])
            self.assertEqual(again.info().n_params, self.model.info().n_params)
        request = {"text": " and", "max_tokens": 4, "sampling": {"temperature": 0}}
        self.assertEqual(copy.generate_json(request).text(), session.generate_json(request).text())

    def test_runtimes(self):
        with Runtime(host_driven=1, log_level=4) as runtime:
            self.assertEqual(runtime.devices()[0].id, b"cpu")
            self.assertFalse(runtime.pump(100))
            model = runtime.load(MODEL)
            self.assertTrue(model.session().generate("The smith", max_tokens=4).text())
            self.assertGreater(runtime.memory().host, 0)
            self.assertEqual(runtime.estimate(MODEL, n_ctx=64, kv_type=inference.KV_F32).fits, 1)
            level, line = runtime.next_log()
            self.assertTrue(level and line)
            runtime.shutdown()
            with self.assertRaisesRegex(Error, "INF_ERR_SHUTDOWN"):
                model.session()
        with self.assertRaisesRegex(Error, "INF_ERR_INVALID_ARGUMENT"):
            Runtime(options={"?": 1})

    def test_threads_and_any_order(self):
        want = self.model.session().generate("The smith", max_tokens=8, sampler=self.model.sampler()).text()
        said = []

        def talk():
            model = inference.load(MODEL)
            session, greedy = model.session(), model.sampler()
            model.close()
            said.append(session.generate("The smith", max_tokens=8, sampler=greedy).text())

        threads = [threading.Thread(target=talk) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(said, [want] * 4)


if __name__ == "__main__":
    unittest.main()
