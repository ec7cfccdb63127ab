// swapped: private memory that is swapped out.
//
// Ready line: {"pid":n}. Commands: `write V` fills every third page anew, the first time all, with
// bytes from V on, and has all pages swapped out; `touch` reads some of them back in. Both answer
// {"swapped":n,"area":{"start":n,"len":n,"fill":[..]}}: how many pages are swapped out now, and the
// byte that each is filled with. At the end it looks at all pages; exit 3: one changed.
#include "common.h"

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif
enum { PAGES = 192 };
static unsigned char *area, fill[PAGES];
static size_t size;

static int swapped(void) {
    static uint64_t entries[PAGES];
    int fd = CHECK(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC)), found = 0;
    CHECK(pread(fd, entries, sizeof entries, (uintptr_t)area / size * 8));
    close(fd);
    for (int i = 0; i < PAGES; i++) found += entries[i] >> 62 & 1;
    return found;
}

static void report(void) {
    printf("{\"swapped\":%d,\"area\":{\"start\":%lu,\"len\":%lu,\"fill\":[", swapped(),
           (unsigned long)area, PAGES * size);
    for (int i = 0; i < PAGES; i++) printf("%s%d", i ? "," : "", fill[i]);
    answer("]}}");
}

int main(void) {
    die_with_parent();
    size = page_size();
    area = map(PAGES * size, MAP_PRIVATE | MAP_ANONYMOUS);
    CHECK(madvise(area, PAGES * size, MADV_NOHUGEPAGE));
    answer("{\"pid\":%d}", getpid());
    char line[64];
    int value, all = 1;
    while (read_command(line, sizeof line)) {
        if (sscanf(line, "write %d", &value) == 1) {
            for (int i = 0; i < PAGES; i += all ? 1 : 3)
                memset(area + i * size, fill[i] = 1 + (value + i) % 250, size);
            all = 0;
            CHECK(madvise(area, PAGES * size, MADV_PAGEOUT));
        } else {
            for (int i = 1; i < PAGES; i += 5) (void)((volatile unsigned char *)area)[i * size];
        }
        report();
    }
    for (int i = 0; i < PAGES; i++)
        for (size_t byte = 0; byte < size; byte++)
            if (area[i * size + byte] != fill[i]) fail(3, "swapped: page %d changed", i);
    return 0;
}
