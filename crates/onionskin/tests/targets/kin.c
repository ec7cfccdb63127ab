// kin: processes in unusual relations and states. The ready line names the one to look at in
// "pid", and others that belong to it in "others".
//
//   --mode clonevm   a CLONE_VM sibling (no thread) writes the same memory: "x" and "y" are the
//                    addresses of two u64, in a page each; x is y or y + 1 at any instant
//   --mode vfork     a vfork child, kept for as long as the target lives ("pid"); its parent waits
//                    in "others"
//   --mode dstate    a thread that waits in D state for children of --hold-ms each (1000), which
//                    have a memory of their own
//   --mode stopped   stopped by job control
//   --mode zombie    a zombie
//   --mode traced    traced by its parent
//   --mode user      runs as nobody (the ready line has "skipped" where that is not allowed)
//
// Commands: report: {"state":"S","x":n,"y":n,"count":n,"largest_gap_ns":n}: the state of "pid" in
// /proc, the counters, the progress of "pid", and the longest that a thread of it waited for the
// processor which counts each millisecond; continue (sends SIGCONT to "pid"), reset (the gap is 0),
// then as report.
#include "common.h"
#include <sys/ptrace.h>

static volatile uint64_t *x, *y, *count, *gap;
static pid_t watched;
static long hold_ms;

static void *count_up(void *unused) {
    (void)unused;
    for (uint64_t then = now_ns();; sleep_ns(1000000), ++*count) {
        uint64_t now = now_ns();
        if (now - then > *gap) *gap = now - then;
        then = now;
    }
}

static int sibling(void *unused) {
    (void)unused;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) {
        *x = *x + 1;
        __asm__ volatile("" ::: "memory");
        *y = *y + 1;
    }
}

static void *vforker(void *unused) {
    (void)unused;
    for (;;) {
        // Not vfork(): with a memory of its own, the child does not stand still with us.
        pid_t pid = syscall(SYS_clone, CLONE_VFORK | SIGCHLD, 0, 0, 0, 0);
        if (pid == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            struct timespec t = {hold_ms / 1000, hold_ms % 1000 * 1000000};
            syscall(SYS_nanosleep, &t, NULL);
            _exit(0);
        }
        int status;
        waitpid(pid, &status, 0);
        if (!WIFEXITED(status) || WEXITSTATUS(status))
            fail(3, "kin: a child ended with %#x", status);
    }
}

// The child of vfork reports itself over a pipe and then waits for ever.
static int to_parent[2];
static void *keep_vforked(void *unused) {
    (void)unused;
    pid_t pid = vfork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        pid_t self = syscall(SYS_getpid);
        if (write(to_parent[1], &self, sizeof self) != sizeof self) _exit(1);
        for (;;) pause();
    }
    return NULL;
}

static pid_t forked(const char *mode) {
    pid_t pid = CHECK(fork());
    if (pid) return pid;
    die_with_parent();
    if (strcmp(mode, "zombie") == 0) _exit(0);
    if (strcmp(mode, "stopped") == 0) raise(SIGSTOP);
    count_up(NULL);
    return 0;
}

static char state_of(pid_t pid) {
    char path[64], line[512] = "";
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *file = fopen(path, "r");
    if (!file) return '-';
    if (!fgets(line, sizeof line, file)) line[0] = 0;
    fclose(file);
    char *end = strrchr(line, ')');
    return end ? end[2] : '-';
}

static pid_t start(const char *mode) {
    static char stack[1 << 16] __attribute__((aligned(16)));
    if (strcmp(mode, "clonevm") == 0) {
        watched = getpid();
        return CHECK(clone(sibling, stack + sizeof stack, CLONE_VM | SIGCHLD, NULL));
    }
    if (strcmp(mode, "vfork") == 0) {
        CHECK(pipe2(to_parent, O_CLOEXEC));
        start_thread(keep_vforked, NULL);
        if (read(to_parent[0], &watched, sizeof watched) != sizeof watched) fail(2, "no child");
        return getpid();
    }
    if (strcmp(mode, "dstate") == 0) {
        watched = getpid();
        start_thread(vforker, NULL), start_thread(count_up, NULL);
        return 0;
    }
    if (strcmp(mode, "user") == 0) {
        watched = getpid();
        if (setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534)) {
            answer("{\"pid\":%d,\"skipped\":\"another user needs root\"}", getpid());
            _exit(0);
        }
        CHECK(prctl(PR_SET_PDEATHSIG, SIGKILL));
        start_thread(count_up, NULL);
        return 0;
    }
    watched = forked(mode);
    if (strcmp(mode, "traced") == 0) CHECK(ptrace(PTRACE_SEIZE, watched, 0, 0));
    siginfo_t info;
    if (strcmp(mode, "stopped") == 0) CHECK(waitid(P_PID, watched, &info, WSTOPPED | WNOWAIT));
    if (strcmp(mode, "zombie") == 0) CHECK(waitid(P_PID, watched, &info, WEXITED | WNOWAIT));
    return getpid();
}

int main(int argc, char **argv) {
    die_with_parent();
    hold_ms = option(argc, argv, "hold-ms", 1000);
    x = map(page_size(), MAP_PRIVATE | MAP_ANONYMOUS);
    y = map(page_size(), MAP_PRIVATE | MAP_ANONYMOUS);
    count = map(page_size(), MAP_SHARED | MAP_ANONYMOUS);
    gap = count + 1;
    pid_t other = start(word_option(argc, argv, "mode", "clonevm"));
    answer("{\"pid\":%d,\"others\":[%d],\"x\":%lu,\"y\":%lu}", watched, other, (unsigned long)x,
           (unsigned long)y);
    char line[64];
    while (read_command(line, sizeof line)) {
        if (strcmp(line, "continue") == 0) CHECK(kill(watched, SIGCONT)), sleep_ns(100000000);
        if (strcmp(line, "reset") == 0) *gap = 0;
        answer("{\"state\":\"%c\",\"x\":%lu,\"y\":%lu,\"count\":%lu,\"largest_gap_ns\":%lu}",
               state_of(watched), *x, *y, *count, *gap);
    }
    return 0;
}
