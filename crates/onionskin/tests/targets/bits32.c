// bits32: a 32-bit process without libc, built with -m32 -nostdlib -static. It writes a ready line
// and then its counter after each line it reads; the end of stdin ends it.
static int call(int nr, int a, const void *b, int c) {
    int result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(nr), "b"(a), "c"(b), "d"(c) : "memory");
    return result;
}

static void say(const char *before, unsigned value) {
    char line[64];
    int len = 0;
    while (*before) line[len++] = *before++;
    char digits[12];
    int count = 0;
    do digits[count++] = '0' + value % 10;
    while (value /= 10);
    while (count) line[len++] = digits[--count];
    line[len++] = '}', line[len++] = '\n';
    call(4, 1, line, len);
}

__attribute__((force_align_arg_pointer)) void _start(void) {
    volatile unsigned counter = 0;
    char byte;
    call(172, 1, (void *)9, 0);          // prctl(PR_SET_PDEATHSIG, SIGKILL)
    say("{\"pid\":", call(20, 0, 0, 0)); // getpid
    while (call(3, 0, &byte, 1) == 1)
        if (byte == '\n') say("{\"count\":", ++counter);
    call(252, 0, 0, 0);
    __builtin_unreachable();
}
