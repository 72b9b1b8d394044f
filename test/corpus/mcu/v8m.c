// Firmware for QEMU's mps2-an505 (Cortex-M33 with TrustZone and FPU) that crashes as `scenario` says and prints what it knows:
// registers, fault status, and a Zephyr coredump with its stack and its System Control Block. build.sh makes the logs.
#include <stdint.h>

extern uint32_t __stack_top[], __process_top[], __process_limit[], __data_start[], __data_end[], __data_load[], __bss_start[], __bss_end[];
extern const uint8_t g_build_id[];
#define REG(address) (*(volatile uint32_t *)(address))
#define NOINLINE __attribute__((noinline))

#define scenario REG(0x3803F000) // put there by the emulator

// ---- Printing

#define UART ((volatile uint32_t *)0x50200000) // CMSDK UART 0, secure alias
static void put(char c) { UART[2] = 1; while (UART[1] & 1) {} UART[0] = c; }
static void print(const char *s) { while (*s) put(*s++); }
static void byte(uint8_t v) { put("0123456789abcdef"[v >> 4]); put("0123456789abcdef"[v & 15]); }
static void hex(uint32_t v) { for (int i = 24; i >= 0; i -= 8) byte(v >> i); }
static void named(const char *name, uint32_t v) { print(name); put('='); hex(v); put('\n'); }

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

static uint32_t special(int which) {
  uint32_t v = 0;
  switch (which) {
  case 0: __asm__ volatile("mrs %0, msp" : "=r"(v)); break;
  case 1: __asm__ volatile("mrs %0, psp" : "=r"(v)); break;
  case 2: __asm__ volatile("mrs %0, msplim" : "=r"(v)); break;
  case 3: __asm__ volatile("mrs %0, psplim" : "=r"(v)); break;
  case 4: __asm__ volatile("mrs %0, msp_ns" : "=r"(v)); break;
  }
  return v;
}

static void leave(void) { register int r0 __asm__("r0") = 0x18; register int r1 __asm__("r1") = 0x20026; __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1)); for (;;) {} }

// A stack overflow leaves no frame: what is there then is what was there before.
NOINLINE void fault_dump(uint32_t exc_return, uint32_t *callee, uint32_t msp) {
  // Coming from non-secure code, SPSEL is the secure side's, and only that side's main stack is used here.
  uint32_t secure = exc_return & 0x40, process = secure ? exc_return & 4 : 0;
  uint32_t *f = (uint32_t *)(process ? special(1) : secure ? msp : special(4));
  uint32_t sp = (uint32_t)(f + (exc_return & 0x10 ? 8 : 26) + ((f[7] >> 9) & 1));
  print("#BUILD "); for (int i = 0; i < 20; i++) byte(g_build_id[16 + i]); put('\n');
  named("cfsr", REG(0xE000ED28)); named("exc_return", exc_return); named("psp", special(1)); named("psplim", special(3)); named("msplim", special(2));
  print("E: #CD:BEGIN#\n"); cd8('Z'); cd8('E'); cd16(2); cd16(3); cd8(5); cd8(0); cd32(0); endline();
  cd8('A'); cd16(2); cd16(17 * 4); endline();
  for (int i = 0; i < 8; i++) cd32(f[i]);
  cd32(sp); for (int i = 0; i < 8; i++) cd32(callee[i]);
  endline();
  memory(0xE000ED24, 0xE000ED40); memory(0xE000EDE4, 0xE000EDEC);
  print("W: other lines of the log may come in between\n");
  uint32_t top = process ? (uint32_t)__process_top : secure ? (uint32_t)__stack_top : 0x0004F000;
  memory((uint32_t)f, top - (uint32_t)f > 768 ? (uint32_t)f + 768 : top);
  if (process) memory(msp, (uint32_t)__stack_top);
  // In a handler that faulted the interrupted task's stack lies elsewhere.
  else if (special(1)) memory(special(1), (uint32_t)__process_top);
  print("E: #CD:END#\n"); leave();
}

__attribute__((naked)) void Fault_Handler(void) {
  __asm__ volatile("mov r0, lr\n mrs r2, msp\n mov r3, #0\n msr msplim, r3\n push {r4-r11}\n mov r1, sp\n b fault_dump\n");
}

// ---- What crashes

NOINLINE int deeper(int n) { volatile char pad[64]; pad[0] = n; return deeper(n + 1) + pad[0]; }
NOINLINE int read_sensor(volatile int *base) { return base[1]; }
NOINLINE int poll_bus(int *base) { return read_sensor(base) + 1; }
NOINLINE float scale(float a, volatile int *base) { float b = a * 1.5f; return b + base[1]; }
NOINLINE float convert(float a, int *base) { return scale(a, base) + 1.0f; }

void SVC_Handler(void) { poll_bus((int *)0xF0000000); __asm__ volatile(""); }
NOINLINE int request(int n) { __asm__ volatile("svc 0" ::: "memory"); return n + 1; }

// Runs at the non-secure alias and reads secure memory.
__attribute__((naked, section(".nonsecure"))) void peek(void) { __asm__ volatile("ldr r0, =0x10000000\n ldr r0, [r0]\n bx lr\n"); }
static void call_nonsecure(uint32_t address) { __asm__ volatile("blxns %0" ::"r"(address & ~1u) : "r0", "r1", "r2", "r3", "r12", "lr", "memory"); }

NOINLINE void open_nonsecure(void) {
  volatile uint32_t *mpc = (volatile uint32_t *)0x58007000; // memory protection of the code RAM: 0x40000 to 0x4ffff is not secure
  for (uint32_t word = 8; word < 10; word++) { mpc[6] = word; mpc[7] = 0xffffffff; }
  REG(0xE000EDD8) = 0; REG(0xE000EDDC) = 0x00000000; REG(0xE000EDE0) = 0x003FFFE1; // SAU region 0
  REG(0xE000EDD0) = 1;
  __asm__ volatile("dsb\n isb\n msr msp_ns, %0" ::"r"(0x0004F000));
}

NOINLINE int task(void) {
  switch (scenario) {
  case 1: return deeper(0);
  case 2: open_nonsecure(); call_nonsecure((uint32_t)peek & 0x0fffffff); return 2;
  case 3: return (int)convert(2.0f, (int *)0xF0000000);
  case 4: return request(4);
  case 5: open_nonsecure(); ((void (*)(void))(((uint32_t)peek & 0x0fffffff) | 1))(); return 5;
  }
  return 0;
}

NOINLINE void run_task(void) { int r = task(); named("ret", r); leave(); }

// ---- Start

static void copy(uint32_t *to, const uint32_t *from, uint32_t *end) { while (to < end) *to++ = *from++; }

void Reset_Handler(void) {
  copy(__data_start, __data_load, __data_end);
  for (uint32_t *p = __bss_start; p < __bss_end; p++) *p = 0;
  REG(0xE000ED08) = 0x10000000;
  REG(0xE000ED24) |= 0xF << 16; // memory management, bus, usage and secure faults have handlers
  REG(0xE000ED88) |= 0xF << 20; // FPU
  print("boot\n");
  __asm__ volatile("msr psp, %0\n msr psplim, %1\n mrs r0, control\n orr r0, #2\n msr control, r0\n isb\n" ::"r"(__process_top), "r"(__process_limit) : "r0");
  run_task();
}

void Hang(void) { for (;;) {} }
__attribute__((section(".isr_vector"), used)) void *const vectors[] = {
  __stack_top, Reset_Handler, Hang, Fault_Handler, Fault_Handler, Fault_Handler, Fault_Handler, Fault_Handler, 0, 0, 0, SVC_Handler, Hang, 0, Hang, Hang,
};
