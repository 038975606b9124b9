# libinference. `make help` lists the targets.

CARGO   ?= cargo
CC      ?= cc
CXX     ?= c++
MODEL   ?= models/demo.gguf
# A kernel set for the C tests; empty = the best of this machine.
KERNELS ?=

# Where `make install` puts things; DESTDIR is prepended for packagers.
PREFIX  ?= /usr/local
DESTDIR ?=
# Not every shell expands ~ behind an equals sign. By the shell, because make's own functions take a space for an end.
override PREFIX := $(shell p='$(PREFIX)'; case "$$p" in ("~/"*) p="$$HOME/$$(printf %s "$$p" | cut -c3-)";; esac; case "$$p" in (/* | ?:*) ;; (*) p="$$PWD/$$p";; esac; printf %s "$$p")
STAGE    = $(DESTDIR)$(PREFIX)

# For another platform: its triple, a CC of its own, and what runs its programs here. `make test-cross` uses them.
TARGET  ?=
RUN     ?=
PROFILE ?= release

BUILD    := $(if $(TARGET),build/$(TARGET),build)
OUTPUT   := target/$(if $(TARGET),$(TARGET)/)$(PROFILE)
COMPILE   = $(CARGO) build --locked $(if $(filter release,$(PROFILE)),--release) $(if $(TARGET),--lib --target $(TARGET)) $(CARGO_FLAGS)
VERSION  := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)

# What the platform calls a shared library: as cargo makes it, as hosts record it, as a linker looks for it.
SYSTEM := $(if $(TARGET),$(if $(findstring windows,$(TARGET)),Windows,$(if $(findstring darwin,$(TARGET)),Darwin,Linux)),$(if $(filter Windows_NT,$(OS)),Windows,$(shell uname -s)))
ifeq ($(SYSTEM),Darwin)
  BUILT := libinference.dylib
  SONAME := libinference.0.dylib
  LINKNAME := libinference.dylib
  SYSTEM_LIBS := -lpthread -lm
  RPATH := -Wl,-rpath,@loader_path/..
else ifeq ($(SYSTEM),Windows)
  # MinGW: Windows looks for a DLL beside the program or on PATH, and has no links; programs are linked with the import library.
  BUILT := inference.dll
  SONAME := inference.dll
  LINKNAME := inference.dll
  IMPLIB := libinference.dll.a
  SYSTEM_LIBS := -lws2_32 -luserenv -lbcrypt -lntdll
  RPATH :=
  EXE := .exe
  # MinGW's POSIX threads, in the program itself: the tests use them, the library does not.
  THREADS := -Wl,-Bstatic -lpthread -Wl,-Bdynamic
else
  BUILT := libinference.so
  SONAME := libinference.so.0
  LINKNAME := libinference.so
  SYSTEM_LIBS := -lpthread -ldl -lm
  RPATH := -Wl,-rpath,'$$ORIGIN/..'
  # Linked here, not by cargo, which would also export the C functions of a dependency (llguidance's llg_*).
  LINK_SHARED = $(CC) -shared -o $@ -Wl,-soname,$(SONAME),-z,nodelete,-z,relro,-z,now,--gc-sections,--strip-debug,--version-script=exports.map \
                -Wl,--whole-archive $(OUTPUT)/libinference.a -Wl,--no-whole-archive -lgcc_s $(SYSTEM_LIBS)
endif
# Elsewhere cargo's own is taken as it is.
LINK_SHARED ?= cp $(OUTPUT)/$(BUILT) $@

LIBRARY  := $(BUILD)/$(SONAME)
CFLAGS   := -std=c11 -D_POSIX_C_SOURCE=200809L -O1 -g -Wall -Wextra -Wpedantic -Wstrict-prototypes -Werror -Iinclude
CXXFLAGS := -std=c++17 -O1 -g -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror -Iinclude
LINK     := -L$(BUILD) -linference $(RPATH) $(SYSTEM_LIBS) $(THREADS)
TESTS    := $(patsubst tests/c/%.c,$(BUILD)/tests/%$(EXE),$(wildcard tests/c/*.c))
EXAMPLES := $(patsubst examples-c/%.c,$(BUILD)/examples/%$(EXE),$(wildcard examples-c/*.c)) \
            $(patsubst examples-cpp/%.cpp,$(BUILD)/examples/%-cpp,$(wildcard examples-cpp/*.cpp))
CPPTESTS := $(patsubst tests/cpp/%.cpp,$(BUILD)/tests/cpp-%,$(wildcard tests/cpp/*.cpp))
SOURCES  := $(shell find src -name '*.rs') Cargo.toml Cargo.lock build.rs exports.map

.PHONY: all help cuda demo chat install test test-rust test-c test-cuda test-host test-cpp test-go test-python test-csharp test-godot test-surface test-examples test-hello test-install test-docs \
        test-cross reference abi-check abi-freeze header lint valgrind schedules torture bench bench-quick bench-engine bench-wrappers clean

all: $(LIBRARY) ## build/: the shared and the static library; the header is in include/

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 24

$(LIBRARY): $(SOURCES)
	$(COMPILE)
	@mkdir -p $(BUILD)
	$(LINK_SHARED)
	cp $(OUTPUT)/libinference.a $(if $(IMPLIB),$(OUTPUT)/$(IMPLIB)) $(BUILD)/
	@[ $(SONAME) = $(LINKNAME) ] || ln -sf $(SONAME) $(BUILD)/$(LINKNAME)
	@touch $@

cuda: $(BUILD)/libinference_cuda.so ## the plugin for NVIDIA's GPUs: docs/cuda.md; CUDA_ARCHS=90 for one kind of GPU

$(BUILD)/libinference_cuda.so: $(SOURCES) $(wildcard tools/cuda/*)
	tools/cuda/plugin.sh $@

demo: $(BUILD)/examples/hello ## let the shipped model speak
	@$< $(MODEL)

chat: $(BUILD)/examples/chat ## talk with the shipped model
	@$< $(MODEL)

FILL = -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(VERSION)|' -e 's|@LIBS@|$(SYSTEM_LIBS)|' -e 's|@SHARED@|$(if $(IMPLIB),bin,lib)/$(SONAME)|' \
       -e 's|@IMPLIB@|$(if $(IMPLIB),lib/$(IMPLIB))|' -e 's|@CMAKE_LIBS@|$(subst $() ,;,$(SYSTEM_LIBS))|'

install: $(LIBRARY) ## libraries, headers, pkg-config file, CMake package, bindings and the shipped model below PREFIX
	mkdir -p "$(STAGE)/lib/pkgconfig" "$(STAGE)/lib/cmake/inference" "$(STAGE)/include" $(if $(IMPLIB),"$(STAGE)/bin")
	@# install replaces files; cp would write into a library that running programs have mapped
	install -m 755 $(LIBRARY) "$(STAGE)/$(if $(IMPLIB),bin,lib)/"
	@[ ! -f $(BUILD)/libinference_cuda.so ] || install -m 755 $(BUILD)/libinference_cuda.so "$(STAGE)/lib/"
	install -m 644 $(BUILD)/libinference.a $(if $(IMPLIB),$(BUILD)/$(IMPLIB)) "$(STAGE)/lib/"
	@[ $(SONAME) = $(LINKNAME) ] || ln -sf $(SONAME) "$(STAGE)/lib/$(LINKNAME)"
	install -m 644 include/inference.h include/inference.hpp "$(STAGE)/include/"
	for part in go python csharp/Unity godot; do mkdir -p "$(STAGE)/share/inference/$$part"; done
	install -m 644 models/demo.gguf "$(STAGE)/share/inference/"
	install -m 644 bindings/go/go.mod $(filter-out %_test.go,$(wildcard bindings/go/*.go)) bindings/go/*.h "$(STAGE)/share/inference/go/"
	install -m 644 bindings/python/inference.py "$(STAGE)/share/inference/python/"
	install -m 644 bindings/csharp/*.cs "$(STAGE)/share/inference/csharp/"
	install -m 644 bindings/csharp/Unity/*.cs "$(STAGE)/share/inference/csharp/Unity/"
	install -m 644 examples-c/godot/* "$(STAGE)/share/inference/godot/"
	sed $(FILL) inference.pc.in > "$(STAGE)/lib/pkgconfig/inference.pc"
	sed $(FILL) inferenceConfig.cmake.in > "$(STAGE)/lib/cmake/inference/inferenceConfig.cmake"
	sed $(FILL) inferenceConfigVersion.cmake.in > "$(STAGE)/lib/cmake/inference/inferenceConfigVersion.cmake"

test: test-rust test-c test-cuda test-host test-cpp test-go test-python test-csharp test-godot test-surface test-examples test-install test-docs abi-check ## everything
	@echo "make test: all passed"

# One library is tested by all: the release build, whose exports are looked at here.
test-rust: $(LIBRARY) ## Rust tests; header, layers, exports
	INF_LIBRARY=$(abspath $(LIBRARY)) $(CARGO) test --locked

test-c: $(TESTS) $(BUILD)/tests/library-static$(EXE) ## C tests on the release library, $(MODEL) and $(KERNELS)
	@for test in $(TESTS); do echo "  $$test"; timeout 300 $(RUN) $$test $(MODEL) $(KERNELS) || exit 1; done
	@$(RUN) $(BUILD)/tests/library-static

test-cpp: $(CPPTESTS) ## C++ tests on the same
	@for test in $(CPPTESTS); do echo "  $$test"; timeout 300 $$test $(MODEL) $(KERNELS) || exit 1; done

test-cuda: $(LIBRARY) $(BUILD)/tests/device$(EXE) ## the plugin for GPUs without a GPU: what it exports and needs, drivers that are missing, old, empty or broken
	@CC="$(CC)" tests/cuda/plugin.sh $(BUILD) $(MODEL) $(KERNELS)

# The Go compiler takes the library from build/, not from where it is installed.
GO     ?= go
GOTEST := cd bindings/go && CGO_CFLAGS="-I$(abspath include)" CGO_LDFLAGS="-L$(abspath $(BUILD)) -linference -Wl,-rpath,$(abspath $(BUILD))" \
          INF_MODEL="$(abspath $(MODEL))" GOFLAGS="-tags=inference_noconfig -buildvcs=false"

test-go: $(LIBRARY) ## Go: vet, the race detector, cgocheck2; INF_ROUNDS=50 for a long run
	@if command -v $(GO) >/dev/null; then \
	  $(GOTEST) && export CGO_CFLAGS CGO_LDFLAGS INF_MODEL GOFLAGS && test -z "$$(gofmt -l .)" && $(GO) vet ./... && \
	  $(GO) test -count=1 -race ./... && GOEXPERIMENT=cgocheck2 $(GO) test -count=1 ./...; \
	else echo "  go is not installed: skipped its tests"; fi

test-python: $(LIBRARY) ## Python: signatures and structs against the header, then the model
	@if command -v python3 >/dev/null; then \
	  INF_LIBRARY=$(abspath $(LIBRARY)) INF_MODEL=$(abspath $(MODEL)) CC="$(CC)" python3 bindings/python/test_inference.py -q && \
	  INF_LIBRARY=$(abspath $(LIBRARY)) python3 tools/schema_conformance.py --quick $(abspath $(MODEL)); \
	else echo "  python3 is not installed: skipped its tests"; fi

test-surface: ## every function is called from C, and known to every wrapper
	@tests/surface.sh

test-examples: $(EXAMPLES) ## build and run the examples
	@for example in $(EXAMPLES); do echo "  $$example"; echo "Hello!" | timeout 120 $$example $(MODEL) || exit 1; done

test-hello: $(BUILD)/examples/hello$(EXE)
	@$(RUN) $< $(MODEL)

# As a stranger would: install, find with pkg-config, compile shared and static, run from elsewhere.
test-install: $(LIBRARY) ## install below build/prefix and use it from there
	@rm -rf "$(BUILD)/a prefix"
	@$(MAKE) --no-print-directory install "PREFIX=$(abspath $(BUILD))/a prefix" DESTDIR= >/dev/null
	tests/installed.sh "$(abspath $(BUILD))/a prefix" $(abspath $(MODEL))

# Each page of docs/ as a reader would, in a prefix of its own; then the reference.
test-docs: $(LIBRARY) ## run the pages of README and docs/, and build the API reference where Doxygen is
	@$(MAKE) --no-print-directory install PREFIX=$(abspath $(BUILD)/prefix) DESTDIR= >/dev/null
	tests/readme.sh $(abspath $(BUILD)/prefix) $(abspath $(MODEL))
	@tests/pages.sh
	@$(MAKE) --no-print-directory reference

reference: ## build/reference/html: the API reference, from the header
	@if command -v doxygen >/dev/null; then mkdir -p $(BUILD)/reference && doxygen docs/Doxyfile && echo "  API reference: $(BUILD)/reference/html/index.html"; \
	else echo "  doxygen is not installed: skipped the API reference"; fi

# Locales with a comma, made here: containers have none.
$(BUILD)/locales:
	@mkdir -p $@
	@for name in de_DE tr_TR; do localedef -i $$name -f UTF-8 $@/$$name.UTF-8 2>/dev/null || true; done

$(BUILD)/hostile: tests/host/hostile.c include/inference.h $(LIBRARY)
	$(CC) $(CFLAGS) $< -o $@ -L$(BUILD) -linference -Wl,-rpath,'$$ORIGIN' $(SYSTEM_LIBS)

$(BUILD)/reload: tests/host/reload.c include/inference.h $(LIBRARY)
	$(CC) $(CFLAGS) $< -o $@ $(SYSTEM_LIBS)

# FULL=1: more rounds of everything.
test-host: $(if $(filter Linux,$(SYSTEM)),$(BUILD)/hostile $(BUILD)/reload $(BUILD)/locales) ## hosts with habits: stacks, floating point, signals, files, memory, fork, dlclose
ifeq ($(SYSTEM),Linux)
	@LOCPATH=$(abspath $(BUILD)/locales) $(BUILD)/hostile $(MODEL) $(if $(FULL),full)
	@$(BUILD)/reload $(LIBRARY) $(MODEL) $(if $(FULL),250,25)
else
	@echo "  this is Linux's: skipped"
endif

# A real engine. SCENE_SECONDS of each of three scenes; STRICT=1 fails on late frames.
SCENE_SECONDS ?= 2
GODOT         ?= $(shell command -v godot3-server || command -v godot-server)

$(BUILD)/godot/libinference_godot.so: examples-c/godot/inference_godot.c $(wildcard examples-c/godot/*) include/inference.h $(LIBRARY)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -shared -fPIC $< -o $@ -L$(BUILD) -linference -Wl,-rpath,'$$ORIGIN/..'
	@cp examples-c/godot/*.gd examples-c/godot/*.gdns examples-c/godot/*.gdnlib examples-c/godot/*.tscn examples-c/godot/project.godot $(@D)/

test-godot: $(if $(GODOT),$(BUILD)/godot/libinference_godot.so) ## eight characters talk in Godot 3, headless: frame times
	@if [ -n "$(GODOT)" ]; then MODEL=$(abspath $(MODEL)) SCENE_SECONDS=$(SCENE_SECONDS) STRICT=$(STRICT) HOME=$(abspath $(BUILD)/godot) \
	  timeout 300 $(GODOT) --path $(BUILD)/godot >$(BUILD)/godot/log 2>/dev/null; status=$$?; grep '^  ' $(BUILD)/godot/log; exit $$status; \
	else echo "  godot3-server is not installed: skipped its scene"; fi

test-csharp: $(LIBRARY) ## C#: against the header, with the model, and as Unity would, under Mono
	@if command -v mcs >/dev/null && command -v mono >/dev/null; then CC="$(CC)" bindings/csharp/test/test.sh $(BUILD) $(MODEL); \
	else echo "  mono-mcs and mono-runtime are not installed: skipped the tests of C#"; fi

abi-check: $(LIBRARY) ## today's library and header against those of the first release: docs/abi.md
	@CC="$(CC)" tests/abi/check.sh $(BUILD) $(MODEL)

abi-freeze: ## before the first release only: take today's header for the first one
	@grep -q '^.define INF_ABI_VERSION 0u' include/inference.h || { echo "the ABI is frozen: docs/abi.md"; exit 1; }
	cp include/inference.h tests/abi/first/inference.h

test-cross: ## Windows under Wine, aarch64 under QEMU, macOS as far as it can be checked: builds all dependencies anew
	@tests/cross.sh

$(BUILD)/tests/%$(EXE): tests/c/%.c tests/c/check.h include/inference.h $(LIBRARY)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $< -o $@ $(LINK)

$(BUILD)/examples/%$(EXE): examples-c/%.c include/inference.h $(LIBRARY)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $< -o $@ $(LINK)

$(BUILD)/tests/cpp-%: tests/cpp/%.cpp tests/cpp/check.hpp include/inference.hpp include/inference.h $(LIBRARY)
	@mkdir -p $(@D)
	$(CXX) $(CXXFLAGS) $< -o $@ $(LINK)

$(BUILD)/tests/cpp-results: CXXFLAGS += -fno-exceptions

$(BUILD)/examples/%-cpp: examples-cpp/%.cpp include/inference.hpp include/inference.h $(LIBRARY)
	@mkdir -p $(@D)
	$(CXX) $(CXXFLAGS) $< -o $@ $(LINK)

# The archive links, too.
$(BUILD)/tests/library-static$(EXE): tests/c/library.c tests/c/check.h include/inference.h $(LIBRARY)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -DINF_STATIC $< -o $@ $(BUILD)/libinference.a $(SYSTEM_LIBS)

torture: $(TESTS) ## hostile hosts, files and API misuse, thousands of rounds, a scene in Godot: nothing left out (an hour)
	$(MAKE) --no-print-directory test-host FULL=1
	$(MAKE) --no-print-directory test-godot SCENE_SECONDS=20 STRICT=1
	INF_TORTURE=1 $(CARGO) test --locked --test malformed_gguf --test hostile_models --test c_api_fuzz -- --nocapture
	INF_TORTURE=1 $(BUILD)/tests/endurance $(MODEL) $(KERNELS)

# The sources of what threads share, with a scheduler of their own that tries orders of events.
schedules: ## pool, KV blocks and queues under 100,000 random schedules each (minutes)
	cd tests/schedules && $(CARGO) test --locked --target-dir ../../target/schedules schedules::

header: ## write include/inference.h from src/ffi
	BLESS=1 $(CARGO) test --locked --test header the_committed_header_is_fresh

lint: ## formatting and clippy, warnings are errors
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings

# valgrind knows no AVX-512. "Still reachable" is the handle table, which lives as long as the process.
valgrind: $(TESTS) $(CPPTESTS) ## C and C++ tests under valgrind: no errors, no leaks
	@# endurance and refused measure and replace the memory that valgrind watches; device ends while threads of its many runtimes, and of candle's pool, still do
	@for test in $(filter-out %/endurance$(EXE) %/refused$(EXE) %/device$(EXE),$(TESTS)) $(CPPTESTS); do echo "  $$test"; \
	  valgrind -q --error-exitcode=99 --leak-check=full --errors-for-leak-kinds=definite,indirect,possible --track-origins=yes --suppressions=tests/valgrind.supp \
	    $$test $(MODEL) avx2 || exit 1; done

# The Python of the benchmark; PEER=FOLDER takes an installed llama-cpp-python instead of building one; BENCH=more options of run.py.
PYTHON   ?= $(BUILD)/bench-env/bin/python
RUN_BENCH = $(PYTHON) tools/bench/run.py $(if $(PEER),--peer $(PEER)) $(BENCH)

$(BUILD)/bench-env/bin/python: tools/bench/requirements.txt
	python3 -m venv $(BUILD)/bench-env
	$@ -m pip install --quiet -r $<
	@touch $@

bench: $(LIBRARY) $(PYTHON) ## ours, llama.cpp and candle, interleaved, all files (an hour); writes benches/record/
	$(RUN_BENCH) --candle --record
	@$(MAKE) --no-print-directory bench-engine

# Of the 0.5B shape, and of the shipped model.
bench-engine: $(PYTHON) ## many sessions, frame budgets, polls, cancels, guesses: benches/sessions, benches/pump
	@set -e; for file in $$($(PYTHON) tools/bench/models.py $(BUILD)/models | head -1) $(MODEL); do echo "== $$file"; \
	  $(CARGO) bench --locked --bench pump -- $$(realpath $$file); $(CARGO) bench --locked --bench sessions -- $$(realpath $$file); done

bench-quick: $(LIBRARY) $(PYTHON) ## two files, few rounds: five minutes once built
	$(RUN_BENCH) --quick

$(BUILD)/wrapper_overhead: tools/wrapper_overhead.cpp include/inference.hpp include/inference.h $(LIBRARY)
	$(CXX) $(CXXFLAGS) -O2 $< -o $@ -L$(BUILD) -linference -Wl,-rpath,'$$ORIGIN' $(SYSTEM_LIBS)

bench-wrappers: $(BUILD)/wrapper_overhead ## what reading an event costs in C, C++, Python, Go
	@$< $(MODEL)
	@python3 tools/wrapper_overhead.py $(MODEL)
	@$(GOTEST) && export CGO_CFLAGS CGO_LDFLAGS INF_MODEL GOFLAGS && $(GO) test -run '^$$' -bench Events . | grep ns/event

clean: ## remove build/ and target/
	rm -rf $(BUILD)
	$(CARGO) clean
