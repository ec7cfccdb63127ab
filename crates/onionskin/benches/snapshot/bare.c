// bare: the loops that Onionskin's scan and copy are compared with, and nothing more.
//
//   bare PID MIB ALL_OF REPORT   scans with those masks, and can copy up to MIB MiB
//
// Looks at every private mapping of the process. Commands on stdin, an answer of JSON for each:
// scan (one pass of PAGEMAP_SCAN), written (the same, asking only for written pages), copy
// (process_vm_readv of the pages of anonymous memory that the last scan told to be present and
// written, zero pages left out).
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

struct region { uint64_t start, end, categories; };
struct scan {
    uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages, category_inverted,
        category_mask, category_anyof_mask, return_mask;
};
#define SCAN _IOWR('f', 16, struct scan)
enum { WRITTEN = 1 << 1, PRESENT = 1 << 3, ZERO = 1 << 5, REGIONS = 16 << 10, BATCH = 1024, SPANS_MAX = 65536 };

static struct region regions[REGIONS], spans[SPANS_MAX];
static struct iovec *pages;
static size_t span_count, page_count, pages_max, regions_seen;
static uint64_t page, wanted_bytes;
static char *buffer;
static int pagemap;
static long pid;

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000ull + now.tv_nsec;
}

static void die(const char *what) {
    fprintf(stderr, "bare: %s: %s\n", what, strerror(errno));
    exit(1);
}

// Finds the private mappings, those of the kernel left out.
static void read_maps(void) {
    char path[64], line[4096];
    snprintf(path, sizeof path, "/proc/%ld/maps", pid);
    FILE *maps = fopen(path, "r");
    if (!maps) die(path);
    span_count = 0;
    while (fgets(line, sizeof line, maps) && span_count < SPANS_MAX) {
        unsigned long start, end;
        char mode[8];
        unsigned long inode;
        if (sscanf(line, "%lx-%lx %7s %*s %*s %lu", &start, &end, mode, &inode) != 4) continue;
        if (mode[3] != 'p' || strstr(line, "[v")) continue;
        struct region *last = span_count ? &spans[span_count - 1] : NULL;
        uint64_t anonymous = inode == 0;
        if (last && last->end == start && last->categories == anonymous) last->end = end;
        else spans[span_count++] = (struct region){start, end, anonymous};
    }
    fclose(maps);
}

static uint64_t scan(uint64_t all_of, uint64_t report) {
    uint64_t began = now_ns();
    page_count = regions_seen = wanted_bytes = 0;
    for (size_t i = 0; i < span_count; i++) {
        struct scan arg = {.size = sizeof arg, .start = spans[i].start, .end = spans[i].end,
                           .vec = (uint64_t)(uintptr_t)regions, .vec_len = REGIONS,
                           .category_mask = all_of, .return_mask = report};
        while (arg.start < arg.end) {
            long count = ioctl(pagemap, SCAN, &arg);
            if (count < 0) die("PAGEMAP_SCAN");
            for (long r = 0; r < count; r++) {
                struct region *at = &regions[r];
                if (!(all_of & WRITTEN)) continue;
                if (report & PRESENT && !(at->categories & PRESENT)) continue;
                if (!spans[i].categories || at->categories & ZERO) continue;
                if (page_count == pages_max) die("more regions than foreseen");
                pages[page_count++] = (struct iovec){(void *)at->start, at->end - at->start};
                wanted_bytes += at->end - at->start;
            }
            regions_seen += count;
            arg.start = arg.walk_end;
        }
    }
    return now_ns() - began;
}

static uint64_t copy(size_t room) {
    uint64_t began = now_ns();
    size_t done = 0;
    for (size_t i = 0; i < page_count; i += BATCH) {
        size_t count = page_count - i < BATCH ? page_count - i : BATCH, bytes = 0;
        for (size_t k = 0; k < count; k++) bytes += pages[i + k].iov_len;
        if (done + bytes > room) die("more bytes than foreseen");
        struct iovec local = {buffer + done, bytes};
        if (process_vm_readv(pid, &local, 1, &pages[i], count, 0) != (ssize_t)bytes)
            die("process_vm_readv");
        done += bytes;
    }
    return now_ns() - began;
}

int main(int argc, char **argv) {
    if (argc != 5) return 2;
    pid = atol(argv[1]);
    size_t room = (size_t)atol(argv[2]) << 20;
    uint64_t all_of = strtoull(argv[3], NULL, 0), report = strtoull(argv[4], NULL, 0);
    page = sysconf(_SC_PAGESIZE);
    char path[64], line[64];
    snprintf(path, sizeof path, "/proc/%ld/pagemap", pid);
    pagemap = open(path, O_RDONLY | O_CLOEXEC);
    if (pagemap < 0) die(path);
    buffer = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pages_max = room / page + 65536;
    pages = malloc(pages_max * sizeof *pages);
    if (buffer == MAP_FAILED || !pages) die("memory");
    // Touched, so that the kernel has no page to find while it is timed.
    memset(buffer, 1, room);
    memset(pages, 1, pages_max * sizeof *pages);
    memset(regions, 1, sizeof regions);
    puts("{}");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        uint64_t ns = 0;
        if (strcmp(line, "scan\n") == 0) read_maps(), ns = scan(all_of, report);
        else if (strcmp(line, "written\n") == 0) read_maps(), ns = scan(WRITTEN, WRITTEN);
        else if (strcmp(line, "copy\n") == 0) ns = copy(room);
        else break;
        printf("{\"ns\":%lu,\"regions\":%zu,\"bytes\":%lu}\n", ns, regions_seen, wanted_bytes);
        fflush(stdout);
    }
    return 0;
}
