# What to do with this repository: `make` builds, `make demo` shows it, `make test` tests everything.
# CARGO_TARGET_DIR moves everything that is built; PREFIX and DESTDIR are where `make install` puts it.

PREFIX ?= /usr/local
DESTDIR ?=
CARGO ?= cargo
CC = gcc
CXX = g++
TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target))
# More arguments for `cargo test`, for example: make test TESTS='--test client'
TESTS ?=

LIBRARY := $(TARGET)/release/libmanhole.so
CLIENT := $(TARGET)/release/manhole-cli
# A fixture is one file; the flags that it needs are on its first line (`// flags: …`), where {library} is the
# directory of the library, for those that link it.
FIXTURES := $(patsubst c-tests/%,$(TARGET)/c-tests/%,$(basename $(wildcard c-tests/*.c c-tests/*.cc)))
FLAGS = $$(sed -n '1{s,^// flags: ,,;s,{library},$(dir $(LIBRARY)),g;p}' $<)
LINKED := $(patsubst c-tests/%.c,$(TARGET)/c-tests/%,$(shell grep -l '^// flags: .*{library}' c-tests/*.c))
WARNINGS := -Wall -Wextra -Wno-missing-field-initializers

export MANHOLE_SO := $(LIBRARY)
export MANHOLE_CLI := $(CLIENT)
export MANHOLE_FIXTURES := $(TARGET)/c-tests

.PHONY: build setup fixtures demo test bench fuzz lint install clean
.DELETE_ON_ERROR:

build:
	$(CARGO) build --release

setup:
	scripts/setup

fixtures: $(FIXTURES)

$(LINKED): | $(LIBRARY)
$(LIBRARY):
	$(CARGO) build --release

$(TARGET)/c-tests/%: c-tests/%.c $(wildcard c-tests/*.h)
	@mkdir -p $(@D)
	$(CC) $(WARNINGS) $< -o $@ $(FLAGS)

$(TARGET)/c-tests/%: c-tests/%.cc $(wildcard c-tests/*.h)
	@mkdir -p $(@D)
	$(CXX) $(WARNINGS) $< -o $@ $(FLAGS)

demo: build
	scripts/demo

# The tests themselves are built quickly; what they look at is the library that `make install` installs.
test: setup build fixtures
	$(CARGO) test --no-fail-fast $(TESTS)

bench: setup build fixtures
	scripts/bench

# What reads a client's bytes, under libFuzzer; a crash leaves its input in fuzz/artifacts. SECONDS for each target.
SECONDS ?= 600
fuzz:
	for target in shell options frames requests; do \
	    mkdir -p fuzz/corpus/$$target && RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run -s none $$target \
	        fuzz/corpus/$$target fuzz/seeds/$$target -- \
	        -max_total_time=$(SECONDS) -timeout=5 -rss_limit_mb=512 -max_len=200000 -print_final_stats=1 || exit 1; \
	done

lint:
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings
	scripts/check-rooms
	for header in $(wildcard include/*.h); do \
	    $(CC) -xc -std=c99 -pedantic -Wall -Wextra -Werror -fsyntax-only $$header && \
	    $(CXX) -xc++ -std=c++11 -pedantic -Wall -Wextra -Werror -fsyntax-only $$header || exit 1; \
	done

install: build
	install -Dm755 $(LIBRARY) $(DESTDIR)$(PREFIX)/lib/libmanhole.so
	install -Dm755 $(CLIENT) $(DESTDIR)$(PREFIX)/bin/manhole-cli
	for header in $(wildcard include/*.h); do \
	    install -Dm644 $$header $(DESTDIR)$(PREFIX)/$$header || exit 1; \
	done

clean:
	$(CARGO) clean
