# libinference. `make help` lists the targets.

CARGO   ?= cargo
CC      ?= cc
CXX     ?= c++
MODEL   ?= models/demo.gguf
# A kernel set for the C tests; empty = the best of this machine.
KERNELS ?=

BUILD    := build
RELEASE  := target/release
LIBRARY  := $(BUILD)/libinference.so.0
CFLAGS   := -std=c11 -D_POSIX_C_SOURCE=200809L -O1 -g -Wall -Wextra -Wpedantic -Wstrict-prototypes -Werror -Iinclude
LINK     := -L$(BUILD) -linference -Wl,-rpath,'$$ORIGIN/..' -lpthread -lm
TESTS    := $(patsubst tests/c/%.c,$(BUILD)/tests/%,$(wildcard tests/c/*.c))
EXAMPLES := $(patsubst examples-c/%.c,$(BUILD)/examples/%,$(wildcard examples-c/*.c))
SOURCES  := $(shell find src -name '*.rs') Cargo.toml Cargo.lock build.rs

.PHONY: all help demo test test-rust test-c test-examples header lint valgrind clean

all: $(LIBRARY) ## build/libinference.so (and .a, with the header in include/)

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 24

$(LIBRARY): $(SOURCES)
	$(CARGO) build --release --locked
	@mkdir -p $(BUILD)
	cp $(RELEASE)/libinference.so $@
	cp $(RELEASE)/libinference.a $(BUILD)/
	ln -sf libinference.so.0 $(BUILD)/libinference.so
	@touch $@

demo: $(BUILD)/examples/hello ## let the shipped model speak
	@$< $(MODEL)

test: test-rust test-c test-examples ## everything
	@echo "make test: all passed"

# One library is tested by all: the release build, whose exports are looked at here.
test-rust: $(LIBRARY) ## Rust tests; header, layers, exports
	INF_LIBRARY=$(abspath $(LIBRARY)) $(CARGO) test --locked

test-c: $(TESTS) $(BUILD)/tests/library-static ## C tests on the release library, $(MODEL) and $(KERNELS)
	@for test in $(TESTS); do echo "  $$test"; timeout 300 $$test $(MODEL) $(KERNELS) || exit 1; done
	@$(BUILD)/tests/library-static

test-examples: $(EXAMPLES) ## build and run the examples
	@for example in $(EXAMPLES); do echo "  $$example"; timeout 120 $$example $(MODEL) || exit 1; done

$(BUILD)/tests/%: tests/c/%.c tests/c/check.h include/inference.h $(LIBRARY)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $< -o $@ $(LINK)

$(BUILD)/examples/%: examples-c/%.c include/inference.h $(LIBRARY)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $< -o $@ $(LINK)

# The archive links, too.
$(BUILD)/tests/library-static: tests/c/library.c tests/c/check.h include/inference.h $(LIBRARY)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -DINF_STATIC $< -o $@ $(BUILD)/libinference.a -lpthread -ldl -lm

header: ## write include/inference.h from src/ffi
	BLESS=1 $(CARGO) test --locked --test header

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
