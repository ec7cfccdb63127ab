// Installs seccomp filters and makes one system call under them, for a list of cases.
//
// stdin, per case: u32 number of filters; for each, oldest first: u32 instructions, then that
// many struct sock_filter; u32 number of the call; u32 zero; u64 arguments[6].
// stdout, per case: u32 outcome, u32 filters installed, s64 value, u64 instruction pointer.
//   outcome 1: the call returned value; 2: SIGSYS with si_errno = value; 3: the thread ended;
//   4: the process was killed by SIGSYS; 5: a filter was refused with errno = value.
//
// Each case runs in a child with two threads, which never makes another call after the tested
// one (the filters might forbid it): the parent watches shared memory and kills the child.
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct report {
    volatile uint32_t outcome, installed;
    volatile int64_t value;
    volatile uint64_t ip;
};
static struct report *report;
static uint32_t filters, nr[2];
static struct sock_fprog program[8];
static uint64_t args[6];

static void get(void *to, size_t len) {
    for (size_t done = 0; done < len;) {
        ssize_t n = read(0, (char *)to + done, len - done);
        if (n <= 0) exit(done == 0 && n == 0 ? 0 : 9);
        done += n;
    }
}

static void put(uint32_t outcome, int64_t value) {
    report->value = value;
    __sync_synchronize();
    report->outcome = outcome;
    for (;;) __asm__ volatile("" ::: "memory");
}

static void on_sigsys(int number, siginfo_t *info, void *context) {
    (void)number, (void)context;
    put(2, info->si_errno);
}

static void *worker(void *unused) {
    (void)unused;
    for (uint32_t i = 0; i < filters; i++) {
        if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program[i])) put(5, errno);
        report->installed = i + 1;
    }
    int64_t result;
#if defined(__x86_64__)
    register uint64_t r10 __asm__("r10") = args[3];
    register uint64_t r8 __asm__("r8") = args[4];
    register uint64_t r9 __asm__("r9") = args[5];
    __asm__ volatile("lea 1f(%%rip), %%r12; mov %%r12, (%[where]); syscall; 1:"
                     : "=a"(result)
                     : "a"((uint64_t)nr[0]), "D"(args[0]), "S"(args[1]), "d"(args[2]), "r"(r10),
                       "r"(r8), "r"(r9), [where] "r"(&report->ip)
                     : "rcx", "r11", "r12", "memory");
#elif defined(__aarch64__)
    register uint64_t x8 __asm__("x8") = nr[0];
    register uint64_t x0 __asm__("x0") = args[0];
    register uint64_t x1 __asm__("x1") = args[1];
    register uint64_t x2 __asm__("x2") = args[2];
    register uint64_t x3 __asm__("x3") = args[3];
    register uint64_t x4 __asm__("x4") = args[4];
    register uint64_t x5 __asm__("x5") = args[5];
    __asm__ volatile("adr x9, 1f; str x9, [%[where]]; svc 0; 1:"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5),
                       [where] "r"(&report->ip)
                     : "x9", "memory");
    result = x0;
#else
#error "not an architecture that the tests know"
#endif
    put(1, result);
    return NULL;
}

static void child(void) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_DUMPABLE, 0);
    struct sigaction action = {.sa_sigaction = on_sigsys, .sa_flags = SA_SIGINFO};
    sigaction(SIGSYS, &action, NULL);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    pthread_t thread;
    if (pthread_create(&thread, NULL, worker, NULL)) put(9, errno);
    pthread_join(thread, NULL);
    put(3, 0);
}

int main(void) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    report = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (report == MAP_FAILED) return 8;
    for (;;) {
        get(&filters, sizeof filters);
        if (filters > 8) return 7;
        for (uint32_t i = 0; i < filters; i++) {
            uint32_t len;
            get(&len, sizeof len);
            program[i].len = len;
            program[i].filter = realloc(program[i].filter, len * 8 + 8);
            get(program[i].filter, len * 8);
        }
        get(nr, sizeof nr);
        get(args, sizeof args);
        memset((void *)report, 0, sizeof *report);
        pid_t pid = fork();
        if (pid < 0) return 6;
        if (pid == 0) child();
        int status = 0, ended = 0;
        while (!report->outcome && !(ended = waitpid(pid, &status, WNOHANG) == pid)) sched_yield();
        if (!ended) {
            kill(pid, SIGKILL);
            waitpid(pid, &status, 0);
        } else if (!report->outcome && WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS) {
            report->outcome = 4;
        }
        if (write(1, (void *)report, sizeof *report) != sizeof *report) return 5;
    }
}
