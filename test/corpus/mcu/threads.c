// Firmware for QEMU's mps2-an386 (Cortex-M4 with FPU) with three threads that are kept and switched as Zephyr does on this processor:
// its kernel structure, its list of threads, what a switch saves and where, and the offsets that it has for debuggers. It is not
// Zephyr: names and offsets are its own. One thread writes where nothing is; build.sh makes the log of its coredump.
#include <stddef.h>
#include <stdint.h>

extern uint32_t __stack_top[], __bss_start[], __bss_end[];
extern const uint8_t g_build_id[];
#define REG(address) (*(volatile uint32_t *)(address))
#define NOINLINE __attribute__((noinline))

// ---- The kernel

struct k_thread {
  struct { void *queue[2]; void *waits_on; uint8_t user_options, thread_state; int8_t prio; } base;
  struct { uint32_t r4_to_r11[8], psp; } callee_saved;
  void (*entry)(void);
  struct k_thread *next_thread;
  char name[16];
  struct { uint32_t basepri; float preempt_float[16]; uint8_t mode_bits, mode_exc_return; } arch;
};
struct z_kernel {
  struct { uint32_t nested; char *irq_stack; struct k_thread *current; } cpus[1];
  struct k_thread *ready;
  struct k_thread *threads;
} _kernel;

__attribute__((used, section(".dbg_thread_info"))) const size_t _kernel_thread_info_offsets[] = {
  1, offsetof(struct z_kernel, cpus[0].current), offsetof(struct z_kernel, threads), offsetof(struct k_thread, entry), offsetof(struct k_thread, next_thread),
  offsetof(struct k_thread, base.thread_state), offsetof(struct k_thread, base.user_options), offsetof(struct k_thread, base.prio),
  offsetof(struct k_thread, callee_saved.psp), offsetof(struct k_thread, name), offsetof(struct k_thread, arch),
  offsetof(struct k_thread, arch.preempt_float) - offsetof(struct k_thread, arch), 0xffffffff, offsetof(struct k_thread, arch.mode_exc_return) - offsetof(struct k_thread, arch),
};
__attribute__((used, section(".dbg_thread_info"))) const size_t _kernel_thread_info_num_offsets = sizeof _kernel_thread_info_offsets / sizeof(size_t);
__attribute__((used, section(".dbg_thread_info"))) const uint8_t _kernel_thread_info_size_t_size = sizeof(size_t);

enum { STACK = 128 };
static struct k_thread main_thread, sensor_thread, logger_thread;
static uint32_t main_stack[STACK] __attribute__((aligned(8))), sensor_stack[STACK] __attribute__((aligned(8))), logger_stack[STACK] __attribute__((aligned(8)));

__attribute__((naked)) void PendSV_Handler(void) {
  __asm__ volatile(
    "mrs r0, psp\n ldr r1, =_kernel\n ldr r2, [r1, %[current]]\n"
    "add r3, r2, %[saved]\n stmia r3!, {r4-r11}\n str r0, [r3]\n strb lr, [r2, %[exc_return]]\n"
    "tst lr, #0x10\n add r3, r2, %[floats]\n it eq\n vstmiaeq r3, {s16-s31}\n"
    "ldr r2, [r1, %[ready]]\n str r2, [r1, %[current]]\n"
    "ldrb r3, [r2, %[exc_return]]\n orn lr, r3, #0xff\n"
    "tst lr, #0x10\n add r3, r2, %[floats]\n it eq\n vldmiaeq r3, {s16-s31}\n"
    "add r3, r2, %[saved]\n ldmia r3!, {r4-r11}\n ldr r0, [r3]\n msr psp, r0\n bx lr\n"
    :: [current] "i"(offsetof(struct z_kernel, cpus[0].current)), [ready] "i"(offsetof(struct z_kernel, ready)), [saved] "i"(offsetof(struct k_thread, callee_saved)),
       [exc_return] "i"(offsetof(struct k_thread, arch.mode_exc_return)), [floats] "i"(offsetof(struct k_thread, arch.preempt_float)));
}

NOINLINE void arch_swap(struct k_thread *next) {
  _kernel.ready = next;
  REG(0xE000ED04) = 1 << 28;
  __asm__ volatile("dsb\n isb" ::: "memory");
}
NOINLINE int k_sleep(struct k_thread *next, int n) { arch_swap(next); return n + 1; }

__attribute__((noreturn)) void z_thread_entry(void (*entry)(void)) { entry(); for (;;) {} }

static void create(struct k_thread *thread, uint32_t *stack, void (*entry)(void), const char *name) {
  uint32_t *frame = stack + STACK - 8;
  frame[0] = (uint32_t)entry; frame[6] = (uint32_t)z_thread_entry & ~1u; frame[7] = 1 << 24;
  thread->callee_saved.psp = (uint32_t)frame;
  thread->entry = entry;
  thread->arch.mode_exc_return = 0xfd;
  for (int i = 0; name[i]; i++) thread->name[i] = name[i];
  thread->next_thread = _kernel.threads;
  _kernel.threads = thread;
}

// ---- Printing

#define UART ((volatile uint32_t *)0x40004000)
static void put(char c) { UART[2] = 1; while (UART[1] & 1) {} UART[0] = c; }
static void print(const char *s) { while (*s) put(*s++); }
static void byte(uint8_t v) { put("0123456789abcdef"[v >> 4]); put("0123456789abcdef"[v & 15]); }

static int column;
static void cd8(uint8_t v) { if (column == 0) print("E: #CD:"); byte(v); if (++column == 32) { put('\n'); column = 0; } }
static void cd16(uint16_t v) { cd8(v); cd8(v >> 8); }
static void cd32(uint32_t v) { cd16(v); cd16(v >> 16); }
static void endline(void) { if (column) put('\n'); column = 0; }
static void memory(uint32_t from, uint32_t to) {
  cd8('M'); cd16(1); cd32(from); cd32(to); endline();
  for (; from < to; from += 4) cd32(REG(from));
  endline();
}

// ---- The fault

static void leave(void) { register int r0 __asm__("r0") = 0x18; register int r1 __asm__("r1") = 0x20026; __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1)); for (;;) {} }

static void dump_thread(struct k_thread *thread, uint32_t *stack) {
  memory((uint32_t)thread, (uint32_t)(thread + 1));
  memory((uint32_t)stack, (uint32_t)(stack + STACK));
}

NOINLINE void fault_dump(uint32_t *f, uint32_t *callee) {
  print("#BUILD "); for (int i = 0; i < 20; i++) byte(g_build_id[16 + i]); put('\n');
  print("E: #CD:BEGIN#\n"); cd8('Z'); cd8('E'); cd16(2); cd16(3); cd8(5); cd8(0); cd32(0); endline();
  cd8('A'); cd16(2); cd16(17 * 4); endline();
  for (int i = 0; i < 8; i++) cd32(f[i]);
  cd32((uint32_t)f); for (int i = 0; i < 8; i++) cd32(callee[i]);
  endline();
  cd8('T'); cd16(1); cd16(sizeof _kernel); endline();
  for (unsigned i = 0; i < sizeof _kernel; i++) cd8(((uint8_t *)&_kernel)[i]);
  endline();
  dump_thread(&logger_thread, logger_stack); dump_thread(&sensor_thread, sensor_stack); dump_thread(&main_thread, main_stack);
  memory(0xE000ED24, 0xE000ED40);
  print("E: #CD:END#\n"); leave();
}
__attribute__((naked)) void Fault_Handler(void) { __asm__ volatile("mrs r0, psp\n push {r4-r11}\n mov r1, sp\n b fault_dump\n"); }

// ---- What the threads do

NOINLINE int wait_for_sample(int n) { return k_sleep(&logger_thread, n) + 1; }
NOINLINE float convert(float a) { float b = a * 1.5f; return b + wait_for_sample((int)b); }
static void sensor(void) { volatile float sample = 2.5f; for (;;) sample = convert(sample); }

NOINLINE int flush_log(int n) { return k_sleep(&main_thread, n) + 1; }
static void logger(void) { for (volatile int n = 0;;) n = flush_log(n); }

NOINLINE void store_sample(volatile int *at, int v) { at[1] = v; }
NOINLINE int record(int *at) { store_sample(at, 5); return at[0] + 1; }
static void run(void) { k_sleep(&sensor_thread, 1); volatile int n = record((int *)0xF0000000); (void)n; }

void Reset_Handler(void) {
  for (uint32_t *p = __bss_start; p < __bss_end; p++) *p = 0;
  REG(0xE000ED24) |= 7 << 16; // memory management, bus and usage faults have handlers
  REG(0xE000ED88) |= 0xF << 20; // FPU
  REG(0xE000ED20) |= 0xff << 16; // PendSV comes last
  create(&main_thread, main_stack, run, "main"); create(&sensor_thread, sensor_stack, sensor, "sensor"); create(&logger_thread, logger_stack, logger, "logger");
  _kernel.cpus[0].current = &main_thread;
  print("boot\n");
  __asm__ volatile("msr psp, %0\n mov r0, #2\n msr control, r0\n isb\n mov r0, %1\n bl z_thread_entry\n" ::"r"(main_stack + STACK), "r"(run) : "r0");
  for (;;) {}
}

void Hang(void) { for (;;) {} }
__attribute__((section(".isr_vector"), used)) void *const vectors[] = {
  __stack_top, Reset_Handler, Hang, Fault_Handler, Fault_Handler, Fault_Handler, Fault_Handler, 0, 0, 0, 0, Hang, Hang, 0, PendSV_Handler, Hang,
};
