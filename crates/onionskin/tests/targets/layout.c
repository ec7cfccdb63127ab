// layout: memory whose mappings change places, are replaced, split and joined.
//
// Slots as large as a page table reaches lie side by side; each has something in its first page,
// one in the middle and its last. A slot as a whole can be moved by moving its page table, which
// leaves the marks of its pages as they were, and what is mapped beside it may join it.
// Commands: step N (does N of the changes below, at random). Answers the pages and their fills.
#include "common.h"

enum { SLOTS = 6, PAGES = 3 };

static size_t size, table;
static char *slots, *spare;
static unsigned char fills[SLOTS][PAGES];
static uint64_t seed = 7;

static char *slot(int i) { return slots + i * table; }

static char *page(int i, int number) {
    return slot(i) + (number == 0 ? 0 : number == 1 ? table / 2 : table - size);
}

static void fresh(char *at, size_t len) {
    // Replaced in one step, or a hole for a moment first: both join what is beside them.
    if (next_random(&seed) % 2) munmap(at, len);
    char *got = mmap(at, len, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    if (got != at) fail(2, "mmap: %s", strerror(errno));
    madvise(at, len, MADV_NOHUGEPAGE);
}

static void fill(int i, int number) {
    unsigned char byte = 1 + next_random(&seed) % 250;
    memset(page(i, number), byte, size);
    fills[i][number] = byte;
}

// Says whether a slot lies within one mapping.
static int is_one(char *at) {
    FILE *maps = fopen("/proc/self/maps", "r");
    if (!maps) fail(2, "/proc/self/maps: %s", strerror(errno));
    char line[512];
    unsigned long start, end;
    int one = 0;
    while (!one && fgets(line, sizeof line, maps))
        one = sscanf(line, "%lx-%lx", &start, &end) == 2 && start <= (uintptr_t)at &&
              (uintptr_t)at + table <= end;
    fclose(maps);
    return one;
}

// Several mappings are moved at once since 6.17 only, and only if no userfaultfd has to do with
// them: else some of them have moved when the call fails.
static int move(char *from, char *to) {
    if (!is_one(from)) return 0;
    if (mremap(from, table, table, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to) return 1;
    fail(2, "mremap: %s", strerror(errno));
    return 0;
}

static void swap(int i, int j) {
    unsigned char kept[PAGES];
    if (i == j || !move(slot(i), spare)) return;
    if (!move(slot(j), slot(i))) {
        if (!move(spare, slot(i))) fail(2, "what moved as one is no longer one");
        return;
    }
    move(spare, slot(j));
    memcpy(kept, fills[i], PAGES);
    memcpy(fills[i], fills[j], PAGES);
    memcpy(fills[j], kept, PAGES);
}

static void step(void) {
    int i = next_random(&seed) % SLOTS, j = next_random(&seed) % SLOTS;
    int number = next_random(&seed) % PAGES;
    volatile char *there = page(i, number);
    switch (next_random(&seed) % 8) {
    case 0: case 1: swap(i, j); break;
    case 2: // a new slot, of which a page is read and so that of zeros
        fresh(slot(i), table);
        memset(fills[i], 0, PAGES);
        (void)*there;
        break;
    case 3: // a new page inside a slot
        fresh(page(i, number), size);
        fills[i][number] = 0;
        (void)*there;
        break;
    case 4: // a new slot joined by the change of its protection
        fresh(slot(i), table);
        memset(fills[i], 0, PAGES);
        mprotect(slot(i), table, PROT_READ);
        (void)*there;
        mprotect(slot(i), table, PROT_READ | PROT_WRITE);
        break;
    case 5: // dropped, and read again
        madvise(page(i, number), size, MADV_DONTNEED);
        fills[i][number] = 0;
        (void)*there;
        break;
    default: fill(i, number);
    }
}

int main(int argc, char **argv) {
    die_with_parent();
    seed = option(argc, argv, "--seed", 7);
    size = page_size();
    table = size / 8 * size;
    // One more in front, to begin where a page table does, and room around the spare one.
    char *room = mmap(NULL, (SLOTS + 5) * table, PROT_NONE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room == MAP_FAILED) fail(2, "mmap: %s", strerror(errno));
    slots = (char *)(((uintptr_t)room + table - 1) / table * table) + table;
    spare = slot(SLOTS + 1);
    for (int i = 0; i < SLOTS; i++) {
        fresh(slot(i), table);
        for (int number = 0; number < PAGES; number++) fill(i, number);
    }
    answer("{\"pid\":%d,\"pages\":%d}", getpid(), SLOTS * PAGES);
    char line[64];
    while (read_command(line, sizeof line)) {
        int count = 0;
        if (sscanf(line, "step %d", &count) != 1) continue;
        while (count-- > 0) step();
        char text[SLOTS * PAGES * 64];
        int len = 0;
        for (int i = 0; i < SLOTS; i++)
            for (int number = 0; number < PAGES; number++)
                len += sprintf(text + len, "%s{\"start\":%lu,\"fill\":[%d]}", len ? "," : "",
                               (unsigned long)page(i, number), fills[i][number]);
        answer("{\"areas\":[%s]}", text);
    }
    return 0;
}
