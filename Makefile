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
override PREFIX := $(patsubst ~/%,$(HOME)/%,$(PREFIX))

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
LINK     := -L$(BUILD) -linference $(RPATH) $(SYSTEM_LIBS)
TESTS    := $(patsubst tests/c/%.c,$(BUILD)/tests/%,$(wildcard tests/c/*.c))
EXAMPLES := $(patsubst examples-c/%.c,$(BUILD)/examples/%,$(wildcard examples-c/*.c))
SOURCES  := $(shell find src -name '*.rs') Cargo.toml Cargo.lock build.rs

.PHONY: all help demo chat install test test-rust test-c test-examples test-install header lint valgrind torture clean

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

install: $(LIBRARY) ## library, header, static library and pkg-config file below PREFIX
	mkdir -p $(DESTDIR)$(PREFIX)/lib/pkgconfig $(DESTDIR)$(PREFIX)/include
	@# install replaces files; cp would write into a library that running programs have mapped
	install -m 755 $(LIBRARY) $(DESTDIR)$(PREFIX)/lib/
	install -m 644 $(BUILD)/libinference.a $(DESTDIR)$(PREFIX)/lib/
	@[ $(SONAME) = $(LINKNAME) ] || ln -sf $(SONAME) $(DESTDIR)$(PREFIX)/lib/$(LINKNAME)
	install -m 644 include/inference.h $(DESTDIR)$(PREFIX)/include/
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(VERSION)|' -e 's|@LIBS@|$(SYSTEM_LIBS)|' inference.pc.in \
	  > $(DESTDIR)$(PREFIX)/lib/pkgconfig/inference.pc

test: test-rust test-c test-examples test-install ## everything
	@echo "make test: all passed"

# One library is tested by all: the release build, whose exports are looked at here.
test-rust: $(LIBRARY) ## Rust tests; header, layers, exports
	INF_LIBRARY=$(abspath $(LIBRARY)) $(CARGO) test --locked

test-c: $(TESTS) $(BUILD)/tests/library-static ## C tests on the release library, $(MODEL) and $(KERNELS)
	@for test in $(TESTS); do echo "  $$test"; timeout 300 $$test $(MODEL) $(KERNELS) || exit 1; done
	@$(BUILD)/tests/library-static

test-examples: $(EXAMPLES) ## build and run the examples
	@for example in $(EXAMPLES); do echo "  $$example"; echo "Hello!" | timeout 120 $$example $(MODEL) || exit 1; done

# As a stranger would: install, find with pkg-config, compile shared and static, run from elsewhere.
test-install: $(LIBRARY) ## install below build/prefix and use it from there
	@$(MAKE) --no-print-directory install PREFIX=$(abspath $(BUILD)/prefix) DESTDIR= >/dev/null
	tests/installed.sh $(abspath $(BUILD)/prefix) $(abspath $(MODEL))

$(BUILD)/tests/%: tests/c/%.c tests/c/check.h include/inference.h $(LIBRARY)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $< -o $@ $(LINK)

$(BUILD)/examples/%: examples-c/%.c include/inference.h $(LIBRARY)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $< -o $@ $(LINK)

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
valgrind: $(TESTS) ## C tests under valgrind: no errors, no leaks
	@for test in $(TESTS); do echo "  $$test"; \
	  valgrind -q --error-exitcode=99 --leak-check=full --errors-for-leak-kinds=definite,indirect,possible --track-origins=yes \
	    $$test $(MODEL) avx2 || exit 1; done

clean: ## remove build/ and target/
	rm -rf $(BUILD)
	$(CARGO) clean
