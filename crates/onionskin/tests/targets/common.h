// What all targets share: dying with the test, time, random numbers, commands on stdin and
// answers on stdout. A target prints one line of JSON when it is ready and one for each command;
// `quit` or the end of stdin ends it.
#ifndef ONIONSKIN_TARGETS_COMMON_H
#define ONIONSKIN_TARGETS_COMMON_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define UNUSED __attribute__((unused))

// Ends the target with a message; 2 is trouble of the test, 3 a broken promise.
UNUSED static void fail(int code, const char *format, ...) {
    va_list list;
    va_start(list, format);
    vfprintf(stderr, format, list);
    va_end(list);
    fputc('\n', stderr);
    _exit(code);
}

#define CHECK(call)                                                                              \
    ({                                                                                           \
        long check_result = (long)(call);                                                        \
        if (check_result == -1) fail(2, "%s:%d: %s: %s", __FILE__, __LINE__, #call,              \
                                     strerror(errno));                                           \
        check_result;                                                                            \
    })

// Makes this process die with the one that started it.
UNUSED static void die_with_parent(void) {
    pid_t parent = getppid();
    CHECK(prctl(PR_SET_PDEATHSIG, SIGKILL));
    if (getppid() != parent) _exit(0);
}

UNUSED static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000ull + now.tv_nsec;
}

UNUSED static void sleep_ns(uint64_t ns) {
    struct timespec left = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
    while (nanosleep(&left, &left) == -1 && errno == EINTR) {}
}

// SplitMix64: as a generator, and as a hash of one number.
UNUSED static uint64_t mix(uint64_t z) {
    z += 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

UNUSED static uint64_t next_random(uint64_t *state) {
    uint64_t value = mix(*state);
    *state += 0x9e3779b97f4a7c15ull;
    return value;
}

UNUSED static size_t page_size(void) { return (size_t)sysconf(_SC_PAGESIZE); }

// Returns the size of the huge pages that are to be had unless one asks for others, in bytes.
UNUSED static size_t huge_page_size(void) {
    FILE *file = fopen("/proc/meminfo", "r");
    char line[256];
    size_t kb = 0;
    while (file && fgets(line, sizeof line, file)) sscanf(line, "Hugepagesize: %zu kB", &kb);
    if (file) fclose(file);
    return kb << 10;
}

// Returns the number behind `--name`, or `otherwise`.
UNUSED static long option(int argc, char **argv, const char *name, long otherwise) {
    for (int i = 1; i + 1 < argc; i++)
        if (strncmp(argv[i], "--", 2) == 0 && strcmp(argv[i] + 2, name) == 0)
            return strtol(argv[i + 1], NULL, 0);
    return otherwise;
}

// Returns the word behind `--name`, or `otherwise`.
UNUSED static const char *word_option(int argc, char **argv, const char *name,
                                      const char *otherwise) {
    for (int i = 1; i + 1 < argc; i++)
        if (strncmp(argv[i], "--", 2) == 0 && strcmp(argv[i] + 2, name) == 0) return argv[i + 1];
    return otherwise;
}

UNUSED static int flag(int argc, char **argv, const char *name) {
    for (int i = 1; i < argc; i++)
        if (strncmp(argv[i], "--", 2) == 0 && strcmp(argv[i] + 2, name) == 0) return 1;
    return 0;
}

// Reads one line of stdin without stdio; returns 0 at the end or at `quit`.
UNUSED static int read_command(char *line, size_t size) {
    size_t len = 0;
    for (;;) {
        char c;
        ssize_t n = read(0, &c, 1);
        if (n == -1 && errno == EINTR) continue;
        if (n <= 0) return 0;
        if (c == '\n') break;
        if (len + 1 < size) line[len++] = c;
    }
    line[len] = 0;
    return strcmp(line, "quit") != 0;
}

// Prints a line at once.
UNUSED static void answer(const char *format, ...) {
    va_list list;
    va_start(list, format);
    vprintf(format, list);
    va_end(list);
    putchar('\n');
    fflush(stdout);
}

UNUSED static void *map(size_t len, int flags) {
    void *at = mmap(NULL, len, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (at == MAP_FAILED) fail(2, "mmap of %zu bytes: %s", len, strerror(errno));
    return at;
}

UNUSED static pthread_t start_thread(void *(*body)(void *), void *argument) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, body, argument)) fail(2, "no thread can be made");
    return thread;
}

// Says which memory a dump of this process takes, as core(5) tells.
UNUSED static void select_for_core(const char *bits) {
    int fd = CHECK(open("/proc/self/coredump_filter", O_WRONLY | O_CLOEXEC));
    CHECK(write(fd, bits, strlen(bits)));
    close(fd);
}

// Returns a number of kB out of /proc/self/status, such as VmRSS.
UNUSED static long status_kb(const char *name) {
    FILE *file = fopen("/proc/self/status", "r");
    char line[256];
    long found = -1;
    size_t len = strlen(name);
    while (file && fgets(line, sizeof line, file))
        if (strncmp(line, name, len) == 0 && line[len] == ':')
            found = strtol(line + len + 1, NULL, 10);
    if (file) fclose(file);
    return found;
}
#endif
