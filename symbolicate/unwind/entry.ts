/**
 * Where a thread begins: behind these there is no caller. The peers go on past `_start` and list frames from argv,
 * environment and stale memory. A name alone doesn't end a walk (see unwind.ts), it only ends guessing.
 */
const ENTRIES: ReadonlySet<string> = new Set([
  // ELF programs, and dynamic loaders.
  '_start', '_dl_start_user', '__start',
  // Threads: glibc, musl, bionic.
  'clone', 'clone3', '__clone', '__clone3', '__clone_internal', 'thread_start', '__bionic_clone',
  // macOS and iOS; their threads begin in thread_start too.
  'start',
  // Microcontrollers: reset, and the first function of a task (ESP-IDF and FreeRTOS, Zephyr, NuttX, ThreadX).
  'Reset_Handler', 'ResetISR', 'reset_handler', 'call_start_cpu0', 'call_start_cpu1', 'z_arm_reset', 'vPortTaskWrapper', 'z_thread_entry', 'nxtask_start',
  '_tx_thread_shell_entry',
  // Windows.
  'RtlUserThreadStart', '_RtlUserThreadStart', '__RtlUserThreadStart',
])

export const isEntry = (name: string): boolean => ENTRIES.has(name)
