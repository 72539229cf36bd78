# durable_event: build, install and test through PGXS.
#
#   make, make install, make installcheck    as with every extension
#   make test     everything: unit, regress, isolation, TAP with a real Kafka
#   make asan     the same with AddressSanitizer and UndefinedBehaviorSanitizer
#   make demo     a temporary server, broker and handler, and events flowing
#   make playground    the same with psql in front, to try things
#   make matrix   test and demo in bare roots of Debian's releases
#   make bench    publish, relay and proxy figures as ratios
#   make unit     the pure units alone
#   make format, make debug, make compile_commands.json, make dist    see CONTRIBUTING.md
#
# test and demo first install the Debian packages that are missing (and say which); they need
# neither root nor an installed durable_event.  Another PostgreSQL: PG_CONFIG=/path/to/pg_config.

MODULE_big = durable_event
EXTENSION = durable_event
PGFILEDESC = "durable_event - transactional events from SQL to Kafka and to HTTP handlers"

# Where this file is: a VPATH build has its own current directory, and $(srcdir) is known
# only after the include below.
here := $(dir $(firstword $(MAKEFILE_LIST)))

# Every source file of the rooms is part of the library: none can be forgotten in a list.  Base
# names must be unique over all rooms: PGXS names dependency files by base name.
ROOMS = $(patsubst $(here)%/,%,$(sort $(dir $(wildcard $(here)extension/*.c $(here)extension/*/*.c \
	$(here)worker/*/*.c))))
OBJS = $(patsubst $(here)%.c,%.o,$(sort $(wildcard $(addprefix $(here),$(addsuffix /*.c,$(ROOMS))))))
room_headers = $(wildcard $(addprefix $(here),$(addsuffix /*.h,$(ROOMS))))

DATA = $(patsubst $(here)%,%,$(wildcard $(here)extension/durable_event--*.sql))
SHLIB_LINK = -lrdkafka -lcurl

# Every file is a test: none can be forgotten in a list.  Both kinds have their expected
# output in expected/, so their names must differ.
# The first creates the extension for the others.
REGRESS = install $(filter-out install,$(sort $(patsubst $(here)sql/%.sql,%,$(wildcard $(here)sql/*.sql))))
ISOLATION = $(sort $(patsubst $(here)test/specs/%.spec,%,$(wildcard $(here)test/specs/*.spec)))

# The library must be preloaded, which a server that happens to run has not done: the tests
# start their own.  --outputdir: the isolation tester looks there for expected/.
REGRESS_OPTS = --encoding=UTF8 --no-locale --temp-instance=./tmp_check_regress --temp-config=$(srcdir)/test/regress.conf
ISOLATION_OPTS = --inputdir=$(srcdir)/test --outputdir=. \
	--temp-instance=./tmp_check_iso --temp-config=$(srcdir)/test/regress.conf

TAP_TESTS = 1
PROVE_TESTS ?= test/t/*.pl

EXTRA_CLEAN = $(UNIT_PROGRAMS) test/broker/broker test/kafka/admin test/clock/shift.so compile_commands.json \
	tmp_check_regress results regression.diffs regression.out

# Not exported: test, demo and bench choose once more, after test/install-deps has installed one.
# What was given to make or stands in the environment reaches them all the same.
ifndef PG_CONFIG
PG_CONFIG := $(shell PG_MAJOR='$(PG_MAJOR)' $(here)test/pg-config)
endif
PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)

# pgxs.mk alone is no proof: Debian has it in the package of the client programs
ifneq ($(and $(wildcard $(PGXS)),$(wildcard $(shell $(PG_CONFIG) --includedir-server 2>/dev/null)/postgres.h)),)

include $(PGXS)

# Makefile.global has just reset it; override: also with PROVE_FLAGS given to make
override PROVE_FLAGS += -I $(abspath $(srcdir))/test/lib

# In a VPATH build only sources may be found elsewhere: with VPATH itself make would take the
# objects of an earlier build in the source tree for its own.
ifneq ($(abspath $(srcdir)),$(CURDIR))
override srcdir := $(abspath $(srcdir))
override VPATH :=
vpath %.c $(srcdir)
vpath %.control $(srcdir)
endif

# Debian's PGXS is built without dependency tracking: without this line a changed header
# rebuilds nothing.
$(OBJS): $(room_headers)

# A VPATH build has no folders for the objects; absolute, or make finds those of the sources.
$(OBJS): | $(addprefix $(CURDIR)/,$(ROOMS))
$(addprefix $(CURDIR)/,$(ROOMS)):
	mkdir -p $@

# ---- programs for the tests: the development broker, and the tests' eyes on Kafka

test/broker/broker test/kafka/admin: %: $(srcdir)/%.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(CPPFLAGS) -o $@ $< $(LDFLAGS) -lrdkafka

broker: test/broker/broker
# a clock that tests may set: loaded beforehand into a server, so without its and our options
test/clock/shift.so: $(srcdir)/test/clock/shift.c
	@mkdir -p $(@D)
	$(CC) -O2 -shared -fPIC -o $@ $< -ldl

test-programs: test/broker/broker test/kafka/admin test/clock/shift.so

# ---- unit tests: test/unit/test_x.c is a program that prints TAP; the sources it tests are
# named in its comment "links: worker/base/x.c worker/base/y.c".  Those that use server facilities get
# the frontend flavour of them, which need not be position-independent (-no-pie).

UNIT_PROGRAMS = $(sort $(patsubst $(here)%.c,%,$(wildcard $(here)test/unit/test_*.c)))
unit_links = $(addprefix $(srcdir)/,$(shell sed -n 's|.*links: *\([^*]*\).*|\1|p' $(1)))

.SECONDEXPANSION:
$(UNIT_PROGRAMS): %: $(srcdir)/%.c $$(call unit_links,$(srcdir)/$$*.c) \
		$(wildcard $(srcdir)/test/unit/*.h) $(room_headers)
	@mkdir -p $(@D)
	$(CC) $(filter-out -fPIC,$(CFLAGS)) -DFRONTEND -I$(srcdir)/test/unit $(CPPFLAGS) \
		-o $@ $(filter %.c,$^) \
		-L$(pkglibdir) -L$(libdir) $(LDFLAGS) -no-pie -lpgcommon -lpgport -lcrypto -lm

unit-programs: $(UNIT_PROGRAMS)

unit: unit-programs
	prove --exec '' $(addprefix ./,$(UNIT_PROGRAMS))

# For a debugger.  Everything anew: make does not know that objects were made with other flags.
# (-Wno-cpp: the system's -D_FORTIFY_SOURCE complains that it needs optimization.)
debug:
	$(MAKE) clean
	$(MAKE) with_llvm=no PG_CFLAGS='-O0 -g3 -Wno-cpp -DUSE_ASSERT_CHECKING $(PG_CFLAGS)' all

# How each file is compiled, for editors.
compile_commands.json: $(MAKEFILE_LIST)
	@{ separator='['; \
	for file in $(OBJS:.o=.c); do \
		printf '%s\n{"directory": "%s", "file": "%s", "command": "%s"}' "$$separator" "$(CURDIR)" \
			"$(abspath $(srcdir))/$$file" '$(subst ",\",$(COMPILE.c)) $(abspath $(srcdir))/'"$$file"; \
		separator=,; \
	done; printf '\n]\n'; } >$@

.PHONY: broker test-programs unit unit-programs debug

else

# The targets below install what is missing and start again.
all install installcheck unit broker test-programs debug compile_commands.json:
	@echo 'No PostgreSQL server headers: $(PG_CONFIG) knows no pgxs.mk and postgres.h.' >&2
	@echo 'Run "$(here)test/install-deps build" (as root, or with sudo), or give PG_CONFIG=/path/to/pg_config.' >&2
	@false

endif

# What was given to make as a variable reaches the scripts through the environment.
export PG_CFLAGS PROVE_TESTS PROVE_FLAGS TESTS KEEP MATRIX MATRIX_CACHE MATRIX_MIRROR

test:
	$(here)test/run

demo:
	$(here)test/install-deps demo
	$(here)test/demo/run

playground:
	$(here)test/install-deps demo
	$(here)test/playground/run

asan:
	SANITIZE=1 $(here)test/run

matrix:
	$(here)test/matrix/run

bench:
	$(here)test/install-deps test
	$(here)test/bench/run

format:
	$(here)test/install-deps ci
	cd $(here). && .ci/check-format --fix

# What PGXN takes: the committed files below a folder of the version's name.
version = $(shell sed -n "s/^default_version *= *'\(.*\)'.*/\1/p" $(here)durable_event.control)
dist:
	git -C $(here). archive --format=zip --prefix=durable_event-$(version)/ \
		--output="$(CURDIR)/durable_event-$(version).zip" HEAD
	@echo durable_event-$(version).zip

.PHONY: all test demo playground asan matrix bench format dist
