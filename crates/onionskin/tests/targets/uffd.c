// uffd: a process with a userfaultfd of its own, whose missing pages wait for their handler.
//
//   --pages N   pages of the registered range (64); the first half is served at the start
//
// Page i, once served, holds in each word mix(i). The handler serves a page only on command, so
// whoever touches another waits.
// Commands: touch I (a thread loads from page I and waits), serve I, serve-all,
// report: {"touched":n, "waiting":n}. Answers with that report. Ready line: {"skipped":".."} where
// the kernel has no userfaultfd for us.
#include "common.h"
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

static int fd;
static long pages, touched, waiting;
static char *start, *buffer;

static void serve(long page) {
    size_t size = page_size();
    for (size_t w = 0; w < size / 8; w++) ((uint64_t *)buffer)[w] = mix(page);
    struct uffdio_copy copy = {.dst = (uint64_t)start + page * size, .src = (uint64_t)buffer,
                               .len = size};
    if (ioctl(fd, UFFDIO_COPY, &copy) && errno != EEXIST) fail(2, "COPY: %s", strerror(errno));
    struct uffdio_range range = {.start = (uint64_t)start + page * size, .len = size};
    CHECK(ioctl(fd, UFFDIO_WAKE, &range));
}

static void *toucher(void *argument) {
    long page = (long)argument;
    __atomic_add_fetch(&waiting, 1, __ATOMIC_SEQ_CST);
    uint64_t value = *(volatile uint64_t *)(start + page * page_size());
    if (value != mix(page)) fail(3, "uffd: page %ld holds %#lx", page, value);
    __atomic_sub_fetch(&waiting, 1, __ATOMIC_SEQ_CST);
    __atomic_add_fetch(&touched, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

int main(int argc, char **argv) {
    die_with_parent();
    pages = option(argc, argv, "pages", 64);
    size_t len = pages * page_size();
    fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
    if (fd < 0) {
        answer("{\"pid\":%d,\"skipped\":\"userfaultfd: %s\"}", getpid(), strerror(errno));
        return 0;
    }
    struct uffdio_api api = {.api = UFFD_API};
    CHECK(ioctl(fd, UFFDIO_API, &api));
    start = map(len, MAP_PRIVATE | MAP_ANONYMOUS);
    buffer = map(page_size(), MAP_PRIVATE | MAP_ANONYMOUS);
    struct uffdio_register range = {.range = {.start = (uint64_t)start, .len = len},
                                    .mode = UFFDIO_REGISTER_MODE_MISSING};
    CHECK(ioctl(fd, UFFDIO_REGISTER, &range));
    for (long i = 0; i < pages / 2; i++) serve(i);
    answer("{\"pid\":%d,\"start\":%lu,\"pages\":%ld,\"served\":%ld}", getpid(),
           (unsigned long)start, pages, pages / 2);
    char line[64];
    while (read_command(line, sizeof line)) {
        long page = 0;
        if (sscanf(line, "touch %ld", &page) == 1) start_thread(toucher, (void *)page);
        else if (sscanf(line, "serve %ld", &page) == 1) serve(page);
        else if (strcmp(line, "serve-all") == 0)
            for (long i = 0; i < pages; i++) serve(i);
        sleep_ns(20000000);
        answer("{\"touched\":%ld,\"waiting\":%ld}", __atomic_load_n(&touched, __ATOMIC_SEQ_CST),
               __atomic_load_n(&waiting, __ATOMIC_SEQ_CST));
    }
    return 0;
}
