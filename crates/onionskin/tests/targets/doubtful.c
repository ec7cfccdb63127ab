// doubtful: holds descriptors by which its memory may be written past its page tables.
//
//   --direct   a file that is read past the page cache
//   --ring     an io_uring as well
//   --held     two pages of a file in memory, of which a child has only a descriptor, and writes by it
//   --shared   two pages of memory that a child has as well, which goes on writing to it
//
// Ready line: {"pid":n,"shared":n,"len":n}, with "skipped":WHY where the machine has no such thing.
// Commands: report: {"count":n}, which counts the loop of a thread; alone: the same, with the child
// ended.
#include "common.h"

static volatile uint64_t count;

static void *work(void *unused) {
    (void)unused;
    for (;;) {
        count++;
        sleep_ns(100000);
    }
}

static const char *open_direct(void) {
    char name[] = "doubtful-file-XXXXXX";
    int made = CHECK(mkstemp(name));
    int file = open(name, O_RDWR | O_DIRECT | O_CLOEXEC);
    unlink(name);
    close(made);
    return file == -1 ? "the file system has no direct I/O" : NULL;
}

static const char *open_ring(void) {
    // The size of struct io_uring_params, which old headers lack.
    uint32_t parameters[30] = {0};
    long ring = syscall(425, 4, parameters);
    return ring == -1 ? "there is no io_uring" : NULL;
}

static char *shared = MAP_FAILED;
static pid_t child;

static void share(void) {
    shared = map(2 * page_size(), MAP_SHARED | MAP_ANONYMOUS);
    pid_t parent = getpid();
    child = CHECK(fork());
    if (child) return;
    die_with_parent();
    if (getppid() != parent) _exit(0);
    for (uint64_t value = 1;; value++) {
        *(volatile uint64_t *)shared = *(volatile uint64_t *)(shared + page_size()) = value;
        sleep_ns(100000);
    }
}

static void hold(void) {
    int file = CHECK(memfd_create("doubtful", MFD_CLOEXEC));
    CHECK(ftruncate(file, 2 * page_size()));
    pid_t parent = getpid();
    child = CHECK(fork());
    if (child == 0) {
        die_with_parent();
        if (getppid() != parent) _exit(0);
        for (uint64_t value = 1;; value++) {
            CHECK(pwrite(file, &value, sizeof value, 0));
            sleep_ns(100000);
        }
    }
    shared = mmap(NULL, 2 * page_size(), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (shared == MAP_FAILED) fail(2, "mmap: %s", strerror(errno));
}

int main(int argc, char **argv) {
    die_with_parent();
    const char *why = NULL;
    if (!why && flag(argc, argv, "direct")) why = open_direct();
    if (!why && flag(argc, argv, "ring")) why = open_ring();
    if (flag(argc, argv, "shared")) share();
    if (flag(argc, argv, "held")) hold();
    start_thread(work, NULL);
    if (why) answer("{\"pid\":%d,\"skipped\":\"%s\"}", getpid(), why);
    else answer("{\"pid\":%d,\"shared\":%lu,\"len\":%lu}", getpid(), (unsigned long)shared,
                2 * page_size());
    char line[64];
    while (read_command(line, sizeof line)) {
        if (strcmp(line, "alone") == 0) {
            CHECK(kill(child, SIGKILL));
            CHECK(waitpid(child, NULL, 0));
        }
        answer("{\"count\":%lu}", count);
    }
    return 0;
}
