// Loops that hold known values in all registers and below the stack pointer, and then look.
#ifndef ONIONSKIN_TARGETS_REGISTERS_H
#define ONIONSKIN_TARGETS_REGISTERS_H
#include "common.h"

#if defined(__x86_64__)
struct held {
    uint64_t general[16];   // rax rbx rcx rdx rsi rdi rbp r8..r15, then rsp
    uint64_t flags;
    uint64_t vectors[64];   // sixteen registers of four words
    unsigned char x87[8][16];
    uint32_t mxcsr, control;
    uint64_t saved_rsp;
};
// Only one thread holds registers at a time. Fixed addresses: no register is free for a pointer.
static struct held want, have;

#define LOAD_ALL(vector_move, name)                                                              \
    vector_move " 0*32+%[w_vec],%%" name "0\n" vector_move " 1*32+%[w_vec],%%" name "1\n"        \
    vector_move " 2*32+%[w_vec],%%" name "2\n" vector_move " 3*32+%[w_vec],%%" name "3\n"        \
    vector_move " 4*32+%[w_vec],%%" name "4\n" vector_move " 5*32+%[w_vec],%%" name "5\n"        \
    vector_move " 6*32+%[w_vec],%%" name "6\n" vector_move " 7*32+%[w_vec],%%" name "7\n"        \
    vector_move " 8*32+%[w_vec],%%" name "8\n" vector_move " 9*32+%[w_vec],%%" name "9\n"        \
    vector_move " 10*32+%[w_vec],%%" name "10\n" vector_move " 11*32+%[w_vec],%%" name "11\n"    \
    vector_move " 12*32+%[w_vec],%%" name "12\n" vector_move " 13*32+%[w_vec],%%" name "13\n"    \
    vector_move " 14*32+%[w_vec],%%" name "14\n" vector_move " 15*32+%[w_vec],%%" name "15\n"
#define STORE_ALL(vector_move, name)                                                             \
    vector_move " %%" name "0,0*32+%[h_vec]\n" vector_move " %%" name "1,1*32+%[h_vec]\n"        \
    vector_move " %%" name "2,2*32+%[h_vec]\n" vector_move " %%" name "3,3*32+%[h_vec]\n"        \
    vector_move " %%" name "4,4*32+%[h_vec]\n" vector_move " %%" name "5,5*32+%[h_vec]\n"        \
    vector_move " %%" name "6,6*32+%[h_vec]\n" vector_move " %%" name "7,7*32+%[h_vec]\n"        \
    vector_move " %%" name "8,8*32+%[h_vec]\n" vector_move " %%" name "9,9*32+%[h_vec]\n"        \
    vector_move " %%" name "10,10*32+%[h_vec]\n" vector_move " %%" name "11,11*32+%[h_vec]\n"    \
    vector_move " %%" name "12,12*32+%[h_vec]\n" vector_move " %%" name "13,13*32+%[h_vec]\n"    \
    vector_move " %%" name "14,14*32+%[h_vec]\n" vector_move " %%" name "15,15*32+%[h_vec]\n"

// All in one statement; rbx and rbp are pushed, since the compiler may not name them as clobbers.
#define HOLD(vector_load, vector_store)                                                          \
    __asm__ volatile(                                                                            \
        "lea -256(%%rsp),%%rsp\n push %%rbx\n push %%rbp\n mov %%rsp,%[saved]\n"                 \
        "finit\n fldcw %[w_cw]\n fld1\n fldpi\n fldl2e\n fldl2t\n fldlg2\n fldln2\n fldz\n fld1\n" \
        "ldmxcsr %[w_mx]\n" vector_load                                                          \
        "push %[w_fl]\n popfq\n"                                                                 \
        "mov 0+%[w_gen],%%rax\n mov 8+%[w_gen],%%rbx\n mov 16+%[w_gen],%%rcx\n"                  \
        "mov 24+%[w_gen],%%rdx\n mov 32+%[w_gen],%%rsi\n mov 40+%[w_gen],%%rdi\n"                \
        "mov 48+%[w_gen],%%rbp\n mov 56+%[w_gen],%%r8\n mov 64+%[w_gen],%%r9\n"                  \
        "mov 72+%[w_gen],%%r10\n mov 80+%[w_gen],%%r11\n mov 88+%[w_gen],%%r12\n"                \
        "mov 96+%[w_gen],%%r13\n mov 104+%[w_gen],%%r14\n mov 112+%[w_gen],%%r15\n"              \
        ".rept 1500\n pause\n .endr\n"                                                           \
        "mov %%rax,0+%[h_gen]\n mov %%rbx,8+%[h_gen]\n mov %%rcx,16+%[h_gen]\n"                  \
        "mov %%rdx,24+%[h_gen]\n mov %%rsi,32+%[h_gen]\n mov %%rdi,40+%[h_gen]\n"                \
        "mov %%rbp,48+%[h_gen]\n mov %%r8,56+%[h_gen]\n mov %%r9,64+%[h_gen]\n"                  \
        "mov %%r10,72+%[h_gen]\n mov %%r11,80+%[h_gen]\n mov %%r12,88+%[h_gen]\n"                \
        "mov %%r13,96+%[h_gen]\n mov %%r14,104+%[h_gen]\n mov %%r15,112+%[h_gen]\n"              \
        "mov %%rsp,120+%[h_gen]\n mov %[saved],%%rsp\n pushfq\n pop %[h_fl]\n cld\n"             \
        vector_store "stmxcsr %[h_mx]\n fnstcw %[h_cw]\n"                                        \
        "fstpt 0+%[h_fp]\n fstpt 16+%[h_fp]\n fstpt 32+%[h_fp]\n fstpt 48+%[h_fp]\n"             \
        "fstpt 64+%[h_fp]\n fstpt 80+%[h_fp]\n fstpt 96+%[h_fp]\n fstpt 112+%[h_fp]\n"           \
        "fninit\n pop %%rbp\n pop %%rbx\n lea 256(%%rsp),%%rsp\n"                                \
        : [h_gen] "=o"(*(uint64_t(*)[16]) & have.general), [h_fl] "=m"(have.flags),              \
          [h_vec] "=o"(*(uint64_t(*)[64]) & have.vectors), [h_mx] "=m"(have.mxcsr),              \
          [h_cw] "=m"(have.control), [h_fp] "=o"(*(char(*)[128]) & have.x87),                    \
          [saved] "+m"(have.saved_rsp)                                                           \
        : [w_gen] "o"(*(uint64_t(*)[16]) & want.general), [w_fl] "m"(want.flags),                \
          [w_vec] "o"(*(uint64_t(*)[64]) & want.vectors), [w_mx] "m"(want.mxcsr),                \
          [w_cw] "m"(want.control)                                                               \
        : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14",      \
          "r15", "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", \
          "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15")

// Holds values that follow from `seed` for a while; returns the name of one that changed.
__attribute__((noinline)) static const char *hold_registers(uint64_t seed) {
    static const char *names[] = {"rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "r8",
                                  "r9",  "r10", "r11", "r12", "r13", "r14", "r15", "rsp"};
    int wide = __builtin_cpu_supports("avx");
    for (int i = 0; i < 15; i++) want.general[i] = mix(seed + i);
    for (int i = 0; i < 64; i++) want.vectors[i] = mix(seed + 100 + i);
    // Carry, parity, adjust, zero, sign, direction and overflow, in all combinations by turns.
    want.flags = (seed & 0xcd5) | 0x202;
    // Exceptions masked, the rounding taken from the seed.
    want.mxcsr = 0x1f80 | (seed & 0x6000);
    want.control = 0x037f | (seed & 0x0c00);
    memset(&have, 0, sizeof have);
    if (wide) HOLD(LOAD_ALL("vmovdqu", "ymm"), STORE_ALL("vmovdqu", "ymm") "vzeroupper\n");
    else HOLD(LOAD_ALL("movdqu", "xmm"), STORE_ALL("movdqu", "xmm"));
    unsigned mxcsr = 0x1f80;
    __asm__ volatile("ldmxcsr %0" ::"m"(mxcsr));
    want.general[15] = have.saved_rsp;
    for (int i = 0; i < 16; i++)
        if (want.general[i] != have.general[i]) return names[i];
    if ((want.flags ^ have.flags) & 0xcd5) return "rflags";
    for (int i = 0; i < 64; i++)
        if ((wide || i % 4 < 2) && want.vectors[i] != have.vectors[i]) return wide ? "ymm" : "xmm";
    if ((want.mxcsr ^ have.mxcsr) & 0xffc0) return "mxcsr";
    if ((want.control ^ have.control) & 0x0f3f) return "x87 control";
    // The constants depend on the rounding; those of the first round to each are the measure.
    static unsigned char known[4][8][16];
    static int have_known[4];
    int rounding = want.control >> 10 & 3;
    if (!have_known[rounding]) memcpy(known[rounding], have.x87, 128), have_known[rounding] = 1;
    for (int i = 0; i < 8; i++)
        if (memcmp(known[rounding][i], have.x87[i], 10)) return "x87";
    return NULL;
}

// Keeps `value` in the 128 bytes below the stack pointer; returns whether they stayed.
__attribute__((noinline)) static int hold_red_zone(uint64_t value) {
    uint64_t wrong;
    __asm__ volatile(
        "lea -512(%%rsp),%%rsp\n"
        ".set at,8\n .rept 16\n mov %[value],-at(%%rsp)\n .set at,at+8\n .endr\n"
        ".rept 1500\n pause\n .endr\n"
        "xor %[wrong],%[wrong]\n"
        ".set at,8\n .rept 16\n mov -at(%%rsp),%%rcx\n xor %[value],%%rcx\n or %%rcx,%[wrong]\n"
        ".set at,at+8\n .endr\n"
        "lea 512(%%rsp),%%rsp\n"
        : [wrong] "=&r"(wrong)
        : [value] "r"(value)
        : "rcx", "memory", "cc");
    return wrong == 0;
}
#else
// Elsewhere the compiler's own registers are held over a loop.
static const char *hold_registers(uint64_t seed) {
    uint64_t r[8];
    for (int i = 0; i < 8; i++) r[i] = mix(seed + i);
    uint64_t a = r[0], b = r[1], c = r[2], d = r[3];
    double x = (double)(seed & 0xffff), y = x * 2;
    for (int i = 0; i < 100000; i++)
        __asm__ volatile("" : "+r"(a), "+r"(b), "+r"(c), "+r"(d), "+w"(x), "+w"(y));
    if (a != r[0] || b != r[1] || c != r[2] || d != r[3]) return "general";
    return x * 2 == y ? NULL : "floating point";
}
static int hold_red_zone(uint64_t value) { return value != 0; }
#endif
#endif
