// moves: mappings that are moved beside one another and grow together.
//
// Three pages of one mapping; `far` moves the last away, `near` moves the middle one right before
// it, so that the kernel joins the two. (Joining drops what a userfaultfd knew of the neighbour,
// and leaves the protection bits in its page table entries: Linux 6.18, `copy_vma`.)
// Ready line: {"moved":ADDRESS}: where the last page will be, once `far` is done.
// Commands: far, near, write V (stores V into each word of the last page). Answers {"value":V}.
#include "common.h"

int main(void) {
    die_with_parent();
    size_t size = page_size();
    char *pages = map(3 * size, MAP_PRIVATE | MAP_ANONYMOUS);
    char *room = mmap(NULL, 8 * size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (room == MAP_FAILED) fail(2, "mmap: %s", strerror(errno));
    for (int i = 0; i < 3; i++) memset(pages + i * size, 1, size);
    char *last = pages + 2 * size;
    answer("{\"pid\":%d,\"moved\":%lu}", getpid(), (unsigned long)(room + 3 * size));
    char line[64];
    while (read_command(line, sizeof line)) {
        uint64_t value = 0;
        int far = strcmp(line, "far") == 0;
        if (far || strcmp(line, "near") == 0) {
            char *to = room + (far ? 3 : 2) * size, *from = far ? last : pages + size;
            if (mremap(from, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, to) != to)
                fail(2, "mremap: %s", strerror(errno));
            if (far) last = to;
        } else if (sscanf(line, "write %lu", &value) == 1) {
            for (size_t w = 0; w < size / 8; w++) ((volatile uint64_t *)last)[w] = value;
        }
        answer("{\"value\":%lu}", *(volatile uint64_t *)last);
    }
    return 0;
}
