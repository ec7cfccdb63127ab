// seccomp: a process under a filter that dislikes one system call, and notices being made to
// make it.
//
//   --mode M   what the filter answers to the call: none (no filter), log, errno (EPERM), trap,
//              kill, kill-thread, notify (a supervisor that never answers), trace;
//              allowlist (all but a few calls kills); strict (seccomp mode 1, one thread);
//              one-thread (kill, in one of three threads only)
//   --call N   the number of the call (that of userfaultfd)
//   --nonzero  the filter answers so only where the low half of the first argument is not 0
//
// Commands: report: {"rounds":n,"sigsys":n}: rounds of a loop that checks its own memory, and how
// many SIGSYS came. Ready line {"skipped":".."} where the kernel does not know the mode.
#include "common.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>

enum { WORDS = 1 << 16, ALL = SECCOMP_FILTER_FLAG_TSYNC };
static uint64_t *memory;
static volatile uint64_t rounds, sleeps, sigsys;
static const char *mode;
static long call;
static int nonzero;

static void on_sigsys(int number) { (void)number, sigsys++; }

static void round_of_checks(void) {
    for (int i = 0; i < WORDS; i += 64)
        if (memory[i] != mix(rounds + i)) fail(3, "seccomp: word %d changed", i);
    rounds++;
    for (int i = 0; i < WORDS; i += 64) memory[i] = mix(rounds + i);
}

static int install(uint32_t answer_to_call, unsigned flags) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)call, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, nonzero ? 1 : 0, 0),
        BPF_STMT(BPF_RET | BPF_K, answer_to_call),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof filter / sizeof *filter, .filter = filter};
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
}

static int install_allowlist(void) {
    static const int allowed[] = {SYS_read,         SYS_write,         SYS_exit,  SYS_exit_group,
                                  SYS_rt_sigreturn, SYS_futex,         SYS_nanosleep,
                                  SYS_clock_nanosleep, SYS_sched_yield, SYS_restart_syscall};
    enum { COUNT = sizeof allowed / sizeof *allowed };
    struct sock_filter filter[COUNT + 3] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))};
    for (int i = 0; i < COUNT; i++)
        filter[1 + i] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
                                                     (uint32_t)allowed[i], COUNT - i, 0);
    filter[COUNT + 1] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
    filter[COUNT + 2] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {.len = COUNT + 3, .filter = filter};
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, ALL, &program);
}

// Restricts all threads, in mode one-thread this one.
static void restrict_threads(void) {
    static const struct { const char *name; uint32_t action; unsigned flags; } modes[] = {
        {"log", SECCOMP_RET_LOG, ALL},
        {"errno", SECCOMP_RET_ERRNO | EPERM, ALL},
        {"trap", SECCOMP_RET_TRAP, ALL},
        {"kill", SECCOMP_RET_KILL_PROCESS, ALL},
        {"kill-thread", SECCOMP_RET_KILL_THREAD, ALL},
        {"notify", SECCOMP_RET_USER_NOTIF, ALL | SECCOMP_FILTER_FLAG_NEW_LISTENER |
                                               SECCOMP_FILTER_FLAG_TSYNC_ESRCH},
        {"trace", SECCOMP_RET_TRACE, ALL},
        {"one-thread", SECCOMP_RET_KILL_PROCESS, 0},
    };
    int result = -2;
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    if (strcmp(mode, "allowlist") == 0) result = install_allowlist();
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++)
        if (strcmp(mode, modes[i].name) == 0) result = install(modes[i].action, modes[i].flags);
    if (result == -2) fail(2, "no mode %s", mode);
    if (result == -1) {
        answer("{\"pid\":%d,\"skipped\":\"seccomp %s: %s\"}", getpid(), mode, strerror(errno));
        _exit(0);
    }
}

static void *checker(void *restricted) {
    if (restricted) restrict_threads();
    for (;; sleep_ns(1000000)) round_of_checks();
}

static void *sleeper(void *unused) {
    (void)unused;
    for (;; sleep_ns(100000000)) sleeps++;
}

// Nothing but read and write from here on: a round of checks for each command.
static void run_strict(void) {
    char line[256], text[64];
    int len = snprintf(line, sizeof line, "{\"pid\":%d}\n", getpid());
    CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT, 0, 0, 0));
    for (;;) {
        if (write(1, line, len) != len) break;
        if (!read_command(text, sizeof text)) break;
        round_of_checks();
        len = snprintf(line, sizeof line, "{\"rounds\":%lu,\"sigsys\":0}\n", rounds);
    }
    syscall(SYS_exit, 0);
}

int main(int argc, char **argv) {
    die_with_parent();
    mode = word_option(argc, argv, "mode", "none");
    call = option(argc, argv, "call", SYS_userfaultfd);
    nonzero = flag(argc, argv, "nonzero");
    memory = map(WORDS * 8, MAP_PRIVATE | MAP_ANONYMOUS);
    for (int i = 0; i < WORDS; i += 64) memory[i] = mix(rounds + i);
    struct sigaction action = {.sa_handler = on_sigsys, .sa_flags = SA_RESTART};
    CHECK(sigaction(SIGSYS, &action, NULL));
    if (strcmp(mode, "strict") == 0) run_strict();
    long one = strcmp(mode, "one-thread") == 0;
    start_thread(sleeper, NULL);
    start_thread(checker, (void *)one);
    // A thread makes calls of its own to begin with, which not every filter allows.
    while (!rounds || !sleeps) sleep_ns(1000000);
    // What stdio needs is got before the allowlist forbids it.
    static char out[1 << 12];
    char line[64];
    setvbuf(stdout, out, _IOFBF, sizeof out);
    pid_t pid = getpid();
    if (!one && strcmp(mode, "none")) restrict_threads();
    answer("{\"pid\":%d}", pid);
    while (read_command(line, sizeof line))
        answer("{\"rounds\":%lu,\"sigsys\":%lu}", rounds, sigsys);
    _exit(0);
}
