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
# Not every shell expands ~ behind an equals sign.
override PREFIX := $(abspath $(patsubst ~/%,$(HOME)/%,$(PREFIX)))

BUILD    := build
RELEASE  := target/release
VERSION  := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)

# What the platform calls a shared library: as cargo makes it, as hosts record it, as a linker looks for it.
SYSTEM := $(if $(filter Windows_NT,$(OS)),Windows,$(shell uname -s))
ifeq ($(SYSTEM),Darwin)
  BUILT := libinference.dylib
  SONAME := libinference.0.dylib
  LINKNAME := libinference.dylib
  SYSTEM_LIBS := -lpthread -lm
  RPATH := -Wl,-rpath,@loader_path/..
else ifeq ($(SYSTEM),Windows)
  # MinGW: Windows looks for a DLL beside the program, and has no links.
  BUILT := inference.dll
  SONAME := inference.dll
  LINKNAME := inference.dll
  SYSTEM_LIBS := -lws2_32 -luserenv -lbcrypt -lntdll
  RPATH :=
else
  BUILT := libinference.so
  SONAME := libinference.so.0
  LINKNAME := libinference.so
  SYSTEM_LIBS := -lpthread -ldl -lm
  RPATH := -Wl,-rpath,'$$ORIGIN/..'
endif

LIBRARY  := $(BUILD)/$(SONAME)
CFLAGS   := -std=c11 -D_POSIX_C_SOURCE=200809L -O1 -g -Wall -Wextra -Wpedantic -Wstrict-prototypes -Werror -Iinclude
CXXFLAGS := -std=c++17 -O1 -g -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror -Iinclude
LINK     := -L$(BUILD) -linference $(RPATH) $(SYSTEM_LIBS)
TESTS    := $(patsubst tests/c/%.c,$(BUILD)/tests/%,$(wildcard tests/c/*.c))
EXAMPLES := $(patsubst examples-c/%.c,$(BUILD)/examples/%,$(wildcard examples-c/*.c)) \
            $(patsubst examples-cpp/%.cpp,$(BUILD)/examples/%-cpp,$(wildcard examples-cpp/*.cpp))
CPPTESTS := $(patsubst tests/cpp/%.cpp,$(BUILD)/tests/cpp-%,$(wildcard tests/cpp/*.cpp))
SOURCES  := $(shell find src -name '*.rs') Cargo.toml Cargo.lock build.rs

.PHONY: all help demo chat install test test-rust test-c test-cpp test-go test-python test-surface test-examples test-install header lint valgrind torture bench bench-quick bench-wrappers clean

all: $(LIBRARY) ## build/: the shared and the static library; the header is in include/

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 24

$(LIBRARY): $(SOURCES)
	$(CARGO) build --release --locked
	@mkdir -p $(BUILD)
	cp $(RELEASE)/$(BUILT) $@
	cp $(RELEASE)/libinference.a $(BUILD)/
	@[ $(SONAME) = $(LINKNAME) ] || ln -sf $(SONAME) $(BUILD)/$(LINKNAME)
	@touch $@

demo: $(BUILD)/examples/hello ## let the shipped model speak
	@$< $(MODEL)

chat: $(BUILD)/examples/chat ## talk with the shipped model
	@$< $(MODEL)

FILL = -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(VERSION)|' -e 's|@SONAME@|$(SONAME)|' -e 's|@LIBS@|$(SYSTEM_LIBS)|' \
        -e 's|@CMAKE_LIBS@|$(subst $() ,;,$(SYSTEM_LIBS))|'

install: $(LIBRARY) ## libraries, headers, pkg-config file and CMake package below PREFIX
	mkdir -p $(DESTDIR)$(PREFIX)/lib/pkgconfig $(DESTDIR)$(PREFIX)/lib/cmake/inference $(DESTDIR)$(PREFIX)/include
	@# install replaces files; cp would write into a library that running programs have mapped
	install -m 755 $(LIBRARY) $(DESTDIR)$(PREFIX)/lib/
	install -m 644 $(BUILD)/libinference.a $(DESTDIR)$(PREFIX)/lib/
	@[ $(SONAME) = $(LINKNAME) ] || ln -sf $(SONAME) $(DESTDIR)$(PREFIX)/lib/$(LINKNAME)
	install -m 644 include/inference.h include/inference.hpp $(DESTDIR)$(PREFIX)/include/
	sed $(FILL) inference.pc.in > $(DESTDIR)$(PREFIX)/lib/pkgconfig/inference.pc
	sed $(FILL) inferenceConfig.cmake.in > $(DESTDIR)$(PREFIX)/lib/cmake/inference/inferenceConfig.cmake
	sed $(FILL) inferenceConfigVersion.cmake.in > $(DESTDIR)$(PREFIX)/lib/cmake/inference/inferenceConfigVersion.cmake

test: test-rust test-c test-cpp test-go test-python test-surface test-examples test-install ## everything
	@echo "make test: all passed"

# One library is tested by all: the release build, whose exports are looked at here.
test-rust: $(LIBRARY) ## Rust tests; header, layers, exports
	INF_LIBRARY=$(abspath $(LIBRARY)) $(CARGO) test --locked

test-c: $(TESTS) $(BUILD)/tests/library-static ## C tests on the release library, $(MODEL) and $(KERNELS)
	@for test in $(TESTS); do echo "  $$test"; timeout 300 $$test $(MODEL) $(KERNELS) || exit 1; done
	@$(BUILD)/tests/library-static

test-cpp: $(CPPTESTS) ## C++ tests on the same
	@for test in $(CPPTESTS); do echo "  $$test"; timeout 300 $$test $(MODEL) $(KERNELS) || exit 1; done

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

# As a stranger would: install, find with pkg-config, compile shared and static, run from elsewhere.
test-install: $(LIBRARY) ## install below build/prefix and use it from there
	@$(MAKE) --no-print-directory install PREFIX=$(abspath $(BUILD)/prefix) DESTDIR= >/dev/null
	tests/installed.sh $(abspath $(BUILD)/prefix) $(abspath $(MODEL))
	tests/readme.sh $(abspath $(BUILD)/prefix) $(abspath $(MODEL))

$(BUILD)/tests/%: tests/c/%.c tests/c/check.h include/inference.h $(LIBRARY)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $< -o $@ $(LINK)

$(BUILD)/examples/%: examples-c/%.c include/inference.h $(LIBRARY)
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
$(BUILD)/tests/library-static: tests/c/library.c tests/c/check.h include/inference.h $(LIBRARY)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -DINF_STATIC $< -o $@ $(BUILD)/libinference.a $(SYSTEM_LIBS)

torture: ## hostile files and API misuse, nothing left out (an hour)
	INF_TORTURE=1 $(CARGO) test --locked --test malformed_gguf --test hostile_models --test c_api_fuzz -- --nocapture

header: ## write include/inference.h from src/ffi
	BLESS=1 $(CARGO) test --locked --test header the_committed_header_is_fresh

lint: ## formatting and clippy, warnings are errors
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings

# valgrind knows no AVX-512. "Still reachable" is the handle table, which lives as long as the process.
valgrind: $(TESTS) $(CPPTESTS) ## C and C++ tests under valgrind: no errors, no leaks
	@for test in $(TESTS) $(CPPTESTS); do echo "  $$test"; \
	  valgrind -q --error-exitcode=99 --leak-check=full --errors-for-leak-kinds=definite,indirect,possible --track-origins=yes --suppressions=tests/valgrind.supp \
	    $$test $(MODEL) avx2 || exit 1; done

# The Python of the benchmark; PEER=FOLDER takes an installed llama-cpp-python instead of building one; BENCH=more options of run.py.
PYTHON   ?= $(BUILD)/bench-env/bin/python
RUN_BENCH = $(PYTHON) tools/bench/run.py $(if $(PEER),--peer $(PEER)) $(BENCH)

$(BUILD)/bench-env/bin/python: tools/bench/requirements.txt
	python3 -m venv $(BUILD)/bench-env
	$@ -m pip install --quiet -r $<
	@touch $@

bench: $(LIBRARY) $(PYTHON) ## ours and llama.cpp, interleaved, all files (an hour); writes benches/record/
	$(RUN_BENCH) --record

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
