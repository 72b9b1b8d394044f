/** Where our stacks and rust-minidump's part, and why ours is right. `gdb` means test/peers/minidump-gdb.test.ts, which holds it. */
export interface Difference {
  dump: string
  /** Index in their crashing thread; for `inserted`, of the frame of theirs that ours stands before. */
  frame: number
  /** inserted: only we have it. left-out: only they have it. trust: found by other means, the same otherwise. */
  kind: 'inserted' | 'left-out' | 'trust'
  /** The function, or the module and offset, that is ours alone or theirs alone. */
  what: string
  why: string
}

const CALLER_OF_WILD_JUMP = 'the function that called the wild address; gdb lists it for the same build and bug, both peers go by the frame pointer and lose it'
const ENTRY_RULE = 'found by the rule of every function\'s first instruction (return address at [sp] or in lr), confirmed by the symbols; the peers find the same word by scanning'
const NEXT = 'the frame after the one that they miss: found by that one\'s CFI'
const DATA = '_fini is 9 bytes long and the place is 75,355 bytes behind its start, in .bss (readelf -S): a word that points at data'

export const DIFFERENCES: readonly Difference[] = [
  { dump: 'own-crashpad-x64__sensord.jump-4141', frame: 1, kind: 'inserted', what: 'dispatch', why: CALLER_OF_WILD_JUMP },
  { dump: 'own-crashpad-x64__sensord.exec-stack', frame: 1, kind: 'inserted', what: 'run', why: 'run() itself calls the bytes on its stack (sensord.c line 28); gdb lists it, and without frame pointers both peers do too' },
  { dump: 'own-crashpad-x64__sensord.jump-4141', frame: 1, kind: 'trust', what: 'run', why: NEXT },
  { dump: 'own-crashpad-x64__sensord.exec-stack', frame: 1, kind: 'trust', what: 'worker', why: NEXT },
  { dump: 'own-crashpad-x64__sensord-nofp.jump-4141', frame: 1, kind: 'trust', what: 'dispatch', why: ENTRY_RULE },
  { dump: 'own-crashpad-x64__sensord-nofp.exec-stack', frame: 1, kind: 'trust', what: 'run', why: ENTRY_RULE },
  { dump: 'own-crashpad-x64__sensord.stack-smash', frame: 9, kind: 'left-out', what: '_fini', why: DATA },
  { dump: 'own-linux-arm__sensord-thumb.jump-4141', frame: 1, kind: 'inserted', what: 'dispatch', why: CALLER_OF_WILD_JUMP },
  { dump: 'own-linux-arm__sensord-thumb.jump-4141', frame: 1, kind: 'trust', what: 'run', why: NEXT },
  { dump: 'breakpad__processor-testdata__exec_av_on_stack', frame: 1, kind: 'inserted', what: 'crashme1.exe+0x000010ad', why: 'code on the stack was called from there: the word at [esp] lies in the program; shown as a scan, because neither symbols nor bytes confirm it' },
]

/**
 * Dump and thread: frames that ours has behind the last of rust-minidump's, and Google's walker too. In the ARM dump it is
 * __clone, which does call start_thread; in Electron's rust-minidump gives up on the thread's stack after the first frame.
 */
export const FARTHER: ReadonlyMap<string, number> = new Map([['own-linux-arm__sensord-armhf.heap-overflow 0', 1], ['node-minidump__windows 4', 25]])

/** Google's walker has another word for the crash, the same address and thread; ours is rust-minidump's. */
export const GOOGLE_DISAGREES: ReadonlyMap<string, string> = new Map([
  ['breakpad__processor-testdata__tiny-exe-fastfail', 'it prints the fast-fail code alone'],
  ['rust-minidump__testdata__invalid-parameter', 'it knows no name for STATUS_INVALID_PARAMETER'],
  ['rust-minidump__testdata__simple-crashpad', 'a dump without an exception: it says 0x00000000, rust-minidump "unknown 0x00000000"'],
])
