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
#elif defined(__aarch64__)
struct held {
    uint64_t general[31];   // x0..x30
    uint64_t flags;
    uint64_t vectors[64];   // thirty-two registers of two words
    uint64_t control, status;
};

// Loads all registers from `want`, passes some time, and stores them to `have`.
void onionskin_hold(const struct held *want, struct held *have);
__asm__(".text\n.type onionskin_hold,%function\nonionskin_hold:\n"
        "stp x29,x30,[sp,-176]!\n stp x19,x20,[sp,16]\n stp x21,x22,[sp,32]\n"
        "stp x23,x24,[sp,48]\n stp x25,x26,[sp,64]\n stp x27,x28,[sp,80]\n"
        "stp d8,d9,[sp,96]\n stp d10,d11,[sp,112]\n stp d12,d13,[sp,128]\n"
        "stp d14,d15,[sp,144]\n str x1,[sp,160]\n add x2,x0,256\n"
        "ld1 {v0.2d-v3.2d},[x2],64\n ld1 {v4.2d-v7.2d},[x2],64\n"
        "ld1 {v8.2d-v11.2d},[x2],64\n ld1 {v12.2d-v15.2d},[x2],64\n"
        "ld1 {v16.2d-v19.2d},[x2],64\n ld1 {v20.2d-v23.2d},[x2],64\n"
        "ld1 {v24.2d-v27.2d},[x2],64\n ld1 {v28.2d-v31.2d},[x2],64\n"
        "ldp x3,x4,[x2]\n msr fpcr,x3\n msr fpsr,x4\n ldr x3,[x0,248]\n msr nzcv,x3\n"
        "ldp x2,x3,[x0,16]\n ldp x4,x5,[x0,32]\n ldp x6,x7,[x0,48]\n ldp x8,x9,[x0,64]\n"
        "ldp x10,x11,[x0,80]\n ldp x12,x13,[x0,96]\n ldp x14,x15,[x0,112]\n"
        "ldp x16,x17,[x0,128]\n ldp x18,x19,[x0,144]\n ldp x20,x21,[x0,160]\n"
        "ldp x22,x23,[x0,176]\n ldp x24,x25,[x0,192]\n ldp x26,x27,[x0,208]\n"
        "ldp x28,x29,[x0,224]\n ldr x30,[x0,240]\n ldp x0,x1,[x0]\n"
        ".rept 2000\n isb\n .endr\n"
        "str x0,[sp,168]\n ldr x0,[sp,160]\n str x1,[x0,8]\n ldr x1,[sp,168]\n str x1,[x0]\n"
        "stp x2,x3,[x0,16]\n stp x4,x5,[x0,32]\n stp x6,x7,[x0,48]\n stp x8,x9,[x0,64]\n"
        "stp x10,x11,[x0,80]\n stp x12,x13,[x0,96]\n stp x14,x15,[x0,112]\n"
        "stp x16,x17,[x0,128]\n stp x18,x19,[x0,144]\n stp x20,x21,[x0,160]\n"
        "stp x22,x23,[x0,176]\n stp x24,x25,[x0,192]\n stp x26,x27,[x0,208]\n"
        "stp x28,x29,[x0,224]\n str x30,[x0,240]\n mrs x1,nzcv\n str x1,[x0,248]\n"
        "add x2,x0,256\n"
        "st1 {v0.2d-v3.2d},[x2],64\n st1 {v4.2d-v7.2d},[x2],64\n"
        "st1 {v8.2d-v11.2d},[x2],64\n st1 {v12.2d-v15.2d},[x2],64\n"
        "st1 {v16.2d-v19.2d},[x2],64\n st1 {v20.2d-v23.2d},[x2],64\n"
        "st1 {v24.2d-v27.2d},[x2],64\n st1 {v28.2d-v31.2d},[x2],64\n"
        "mrs x3,fpcr\n mrs x4,fpsr\n stp x3,x4,[x2]\n msr fpcr,xzr\n"
        "ldp d14,d15,[sp,144]\n ldp d12,d13,[sp,128]\n ldp d10,d11,[sp,112]\n"
        "ldp d8,d9,[sp,96]\n ldp x27,x28,[sp,80]\n ldp x25,x26,[sp,64]\n"
        "ldp x23,x24,[sp,48]\n ldp x21,x22,[sp,32]\n ldp x19,x20,[sp,16]\n"
        "ldp x29,x30,[sp],176\n ret\n.size onionskin_hold,.-onionskin_hold\n");

// Holds values that follow from `seed` for a while; returns the name of one that changed.
static const char *hold_registers(uint64_t seed) {
    static struct held want, have;
    for (int i = 0; i < 31; i++) want.general[i] = mix(seed + i);
    for (int i = 0; i < 64; i++) want.vectors[i] = mix(seed + 100 + i);
    want.flags = (seed & 0xf) << 28;
    // The rounding, and the exceptions that are said to have happened.
    want.control = (seed & 3) << 22;
    want.status = seed & 0x1f;
    memset(&have, 0, sizeof have);
    onionskin_hold(&want, &have);
    if (memcmp(want.general, have.general, sizeof want.general)) return "general";
    if (want.flags != have.flags) return "flags";
    if (memcmp(want.vectors, have.vectors, sizeof want.vectors)) return "vector";
    if (want.control != have.control) return "fpcr";
    return want.status == have.status ? NULL : "fpsr";
}

// Nothing below the stack pointer is a function's own here.
static int hold_red_zone(uint64_t value) { return value != 0; }
#endif
#endif
