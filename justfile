# Short names for the project's own commands; `cargo xtask --help` has them all.

check *STEPS:
    cargo xtask check {{STEPS}}

test *FILTERS:
    cargo xtask test -- {{FILTERS}}

fuzz SECONDS="60":
    cargo xtask fuzz --seconds {{SECONDS}}

dist:
    cargo xtask dist
