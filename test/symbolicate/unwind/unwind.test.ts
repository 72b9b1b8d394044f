import { expect, test } from 'vitest'
import { parseMinidump } from '../../../symbolicate/formats/minidump.ts'
import { parseBreakpadSym } from '../../../symbolicate/symbols/breakpad-sym.ts'
import type { ModuleSymbols } from '../../../symbolicate/symbols/source.ts'
import { type Stack, UNWIND_BUDGET, type UnwindBudget } from '../../../symbolicate/unwind/frame.ts'
import { createUnwinder } from '../../../symbolicate/unwind/unwind.ts'
import { type Drawn, drawMinidump, drawWords } from '../../synth/minidump.ts'

const CODE = 0x400000n
const STACK = 0x7ffe0000n
const HEAD = 'MODULE Linux x86_64 0102030405060708090A0B0C0D0E0F100 sensord\n'
/** Four functions of 0x100 bytes; each call site below is in the middle of one. */
const FUNCTIONS = `${HEAD}FUNC 1000 100 0 crash\nFUNC 1100 100 0 parse\nFUNC 1200 100 0 serve\nFUNC 1300 100 0 _start\n`
const [IN_CRASH, IN_PARSE, IN_SERVE, IN_START] = [CODE + 0x1050n, CODE + 0x1150n, CODE + 0x1250n, CODE + 0x1350n]

test('CFI finds callers and gives them back their registers', async () => {
  const rules = '.cfa: $rsp 24 + .ra: .cfa -8 + ^ $rbp: .cfa -16 + ^'
  const stack = await walk({
    symbols: `${FUNCTIONS}STACK CFI INIT 1000 100 ${rules}\nSTACK CFI INIT 1100 100 .cfa: $rbp 16 + .ra: .cfa -8 + ^ $rbp: .cfa -16 + ^\n`,
    registers: { rip: IN_CRASH, rsp: STACK, rbp: 0x1234n },
    // crash: [saved r?, rbp, return]; parse: frame at STACK + 0x28.
    words: [0, STACK + 0x28n, IN_PARSE, 0xaa, 0xbb, 0, IN_SERVE, 0, 0],
  })
  expect(named(stack)).toEqual(['context crash', 'cfi parse', 'cfi serve'])
  // Callers are looked up inside of their call.
  expect(stack.frames[1]!.address).toBe(IN_PARSE - 1n)
  expect(stack.frames[1]!.offset).toBe(0x114f)
})

test('a return address one past the end of a function belongs to it', async () => {
  const stack = await walk({
    symbols: `${FUNCTIONS}STACK CFI INIT 1000 100 .cfa: $rsp 8 + .ra: .cfa -8 + ^\n`,
    registers: { rip: IN_CRASH, rsp: STACK }, words: [CODE + 0x1200n],
  })
  expect(named(stack)).toEqual(['context crash', 'cfi parse'])
})

test('the chain of frame pointers', async () => {
  const stack = await walk({
    symbols: FUNCTIONS, registers: { rip: IN_CRASH, rsp: STACK, rbp: STACK + 0x10n },
    words: [0, 0, STACK + 0x28n, IN_PARSE, 0, STACK + 0x40n, IN_SERVE, 0, 0, 0],
  })
  expect(named(stack)).toEqual(['context crash', 'frame_pointer parse', 'frame_pointer serve'])
})

test('a saved frame pointer that points down was none', async () => {
  const stack = await walk({ symbols: FUNCTIONS, registers: { rip: IN_CRASH, rsp: STACK, rbp: STACK + 0x10n }, words: [0, IN_PARSE, STACK, IN_SERVE] })
  expect(named(stack)).toEqual(['context crash', 'scan parse', 'scan serve'])
})

test('a scan passes over what is no code, and over data in a module', async () => {
  const stack = await walk({
    symbols: FUNCTIONS, registers: { rip: IN_CRASH, rsp: STACK },
    words: [0x41, 0xffff_ffff_ffff_ffffn, CODE + 0x3000n, STACK, IN_PARSE, 7, IN_SERVE],
  })
  expect(named(stack)).toEqual(['context crash', 'scan parse', 'scan serve'])
})

test('a scan believes any place in a module without symbols', async () => {
  const stack = await walk({ symbols: null, registers: { rip: IN_CRASH, rsp: STACK }, words: [0, CODE + 0x3000n] })
  expect(stack.frames.map((frame) => [frame.trust, frame.offset, frame.symbol])).toEqual([['context', 0x1050, null], ['scan', 0x2fff, null]])
})

test('a far-away PUBLIC without call-frame rules is data to a scan', async () => {
  const stack = await walk({ symbols: `${FUNCTIONS}PUBLIC 1400 0 _fini\n`, registers: { rip: IN_CRASH, rsp: STACK }, words: [CODE + 0x3000n, IN_PARSE] })
  expect(named(stack)).toEqual(['context crash', 'scan parse'])
})

test('nothing is invented behind the entry of the program', async () => {
  const stack = await walk({ symbols: FUNCTIONS, registers: { rip: IN_CRASH, rsp: STACK }, words: [IN_START, IN_PARSE, IN_SERVE] })
  expect(named(stack)).toEqual(['context crash', 'scan _start'])
  expect(stack.end).toBe('entry')
})

test('a function of the program\'s own that is called like an entry keeps its caller', async () => {
  const rules = 'STACK CFI INIT 1000 300 .cfa: $rsp 8 + .ra: .cfa -8 + ^\n'
  const stack = await walk({ symbols: `${FUNCTIONS.replace('parse', 'start')}${rules}`, registers: { rip: IN_CRASH, rsp: STACK }, words: [IN_PARSE, IN_SERVE, 0x77] })
  expect(named(stack)).toEqual(['context crash', 'cfi start', 'cfi serve'])
  const invented = await walk({ symbols: `${FUNCTIONS}${rules}STACK CFI INIT 1300 100 .cfa: $rsp 8 + .ra: .cfa -8 + ^\n`, registers: { rip: IN_CRASH, rsp: STACK }, words: [IN_START, 0x7ffe0008, IN_PARSE] })
  expect(named(invented)).toEqual(['context crash', 'cfi _start'])
  expect(invented.end).toBe('entry')
})

test('a call to a wild address keeps the function that made it, frame pointer or not', async () => {
  const stack = await walk({
    symbols: FUNCTIONS, registers: { rip: 0x4141414141414141n, rsp: STACK, rbp: STACK + 0x10n },
    words: [IN_PARSE, 0, STACK + 0x28n, IN_SERVE, 0, 0, 0],
  })
  expect(named(stack)).toEqual(['context 0x4141414141414141', 'cfi parse', 'frame_pointer serve'])
  expect(stack.frames[0]).toMatchObject({ module: null, offset: 0 })
})

test('the word at the stack pointer is no caller when the bytes before it are no call', async () => {
  const bytes = (last: number[]): Drawn['memory'] => [{ base: IN_PARSE - 16n, bytes: Uint8Array.from([...new Array<number>(16 - last.length).fill(0x90), ...last]) }]
  const drawn = { symbols: FUNCTIONS, registers: { rip: 0x41n << 40n, rsp: STACK, rbp: STACK + 0x10n }, words: [IN_PARSE, 0, STACK + 0x28n, IN_SERVE, 0, 0, 0] }
  const callers = async (memory: Drawn['memory']): Promise<string[]> => named(await walk({ ...drawn, memory })).slice(1, 2)
  expect(await callers(bytes([0x90, 0x90]))).toEqual(['frame_pointer serve'])
  expect(await callers(bytes([0xff, 0xd0]))).toEqual(['cfi parse'])
  expect(await callers(bytes([0xe8, 1, 2, 3, 4]))).toEqual(['cfi parse'])
  expect(await callers(bytes([0xff, 0x54, 0x24, 0x08]))).toEqual(['cfi parse'])
  expect(await callers(bytes([0xff, 0x15, 1, 2, 3, 4]))).toEqual(['cfi parse'])
})

test('ARM64: authentication bits come off, and a wild branch keeps its caller in lr', async () => {
  const arm: Walked = { cpu: 'arm64', symbols: FUNCTIONS, registers: { pc: 0xdead0000n, lr: IN_PARSE | (0x7fn << 48n), sp: STACK, fp: STACK }, words: [STACK + 0x20n, IN_SERVE | (0x2bn << 48n), 0, 0, 0, IN_START] }
  const stack = await walk(arm)
  expect(named(stack)).toEqual(['context 0xdead0000', 'cfi parse', 'frame_pointer serve', 'frame_pointer _start'])
  expect(stack.frames[1]!.address).toBe(IN_PARSE - 4n)
})

test('ARM64 without CFI: a leaf\'s caller is in lr, unless lr is stale or stored already', async () => {
  const callers = async (lr: bigint): Promise<string[]> => named(await walk({
    cpu: 'arm64', symbols: FUNCTIONS, registers: { pc: IN_CRASH, lr, sp: STACK, fp: STACK + 16n }, words: [0, 0, STACK + 0x30n, IN_SERVE, 0, 0, 0, 0],
  }))
  expect(await callers(IN_PARSE)).toEqual(['context crash', 'frame_pointer parse', 'frame_pointer serve'])
  expect(await callers(IN_CRASH + 8n)).toEqual(['context crash', 'frame_pointer serve'])
  expect(await callers(IN_SERVE)).toEqual(['context crash', 'frame_pointer serve'])
  expect(await callers(0x41414141n)).toEqual(['context crash', 'frame_pointer serve'])
})

test('ARM: the link register, and scanning with 32-bit words', async () => {
  const stack = await walk({
    cpu: 'arm', symbols: `${FUNCTIONS}STACK CFI INIT 1000 100 .cfa: sp 0 + .ra: lr\n`, registers: { pc: IN_CRASH, lr: IN_PARSE, sp: STACK }, width: 4, words: [5, Number(IN_SERVE)],
  })
  expect(named(stack)).toEqual(['context crash', 'cfi parse', 'scan serve'])
  expect(stack.frames[1]!.address).toBe(IN_PARSE - 2n)
})

test('x86: frame pointers of 4 bytes; a null return address ends the walk', async () => {
  const stack = await walk({
    cpu: 'x86', symbols: FUNCTIONS, registers: { eip: IN_CRASH, esp: STACK, ebp: STACK + 4n }, width: 4,
    words: [0, Number(STACK) + 16, Number(IN_PARSE), 0, 0, 0, Number(IN_SERVE)],
  })
  expect(named(stack)).toEqual(['context crash', 'frame_pointer parse'])
})

test('x86: frame data of Windows, as a program and as FPO, with the parameters that the callee was called with', async () => {
  const stack = await walk({
    cpu: 'x86', registers: { eip: IN_CRASH, esp: STACK, ebp: 0x1234n }, width: 4,
    symbols: `${FUNCTIONS}STACK WIN 4 1000 100 0 0 8 4 8 0 1 $T2 $esp .cbLocals + .cbSavedRegs + = $T0 .raSearchStart = $eip $T0 ^ = $esp $T0 4 + = $ebx $T0 4 - ^ =\nSTACK WIN 0 1100 100 0 0 0 8 4 0 0 1\n`,
    // crash: two locals, ebx, return address; parse: crash's two parameters, a local, ebp and another, return address.
    words: [1, 2, 0xbb, Number(IN_PARSE), 5, 6, Number(STACK) + 48, 8, 9, Number(IN_SERVE), 0, 0, 0, 0],
  })
  expect(named(stack)).toEqual(['context crash', 'cfi parse', 'cfi serve'])
})

test('x86: a program looks for the return address behind the parameters of the callee\'s callee', async () => {
  const program = '0 1 $eip .raSearchStart ^ = $esp .raSearchStart 4 + ='
  const stack = await walk({
    cpu: 'x86', registers: { eip: IN_CRASH, esp: STACK, ebp: 0x1234n }, width: 4,
    symbols: `${FUNCTIONS}STACK WIN 4 1000 100 0 0 8 0 0 ${program}\nSTACK WIN 4 1100 100 0 0 0 0 4 ${program}\n`,
    // crash: return address; parse: crash's two parameters, a local, return address.
    words: [Number(IN_PARSE), 5, 6, 7, Number(IN_SERVE), 0, 0, 0, 0],
  })
  expect(named(stack)).toEqual(['context crash', 'cfi parse', 'cfi serve'])
})

test.each([
  ['lacks operands', '$eip ='], ['assigns to a number', '4 4 ='], ['leaves something over', '$eip 4 = $esp 8 = 1'], ['reads where nothing is', '$eip 16 ^ = $esp 8 ='],
  ['divides by nothing', '$eip 1 0 / = $esp 8 ='], ['sets no return address', '$esp 8 ='], ['is endless', '$eip 4 = '.repeat(200)], ['aligns to no power of two', '$eip $esp 3 @ = $esp 8 ='],
])('x86: frame data that %s is passed over', async (_, program) => {
  const stack = await walk({
    cpu: 'x86', registers: { eip: IN_CRASH, esp: STACK, ebp: STACK + 4n }, width: 4,
    symbols: `${FUNCTIONS}STACK WIN 4 1000 100 0 0 0 0 0 0 1 ${program}\n`, words: [0, Number(STACK) + 16, Number(IN_PARSE), 0, 0, 0, 0],
  })
  expect(named(stack)).toEqual(['context crash', 'frame_pointer parse'])
})

test('recursion is folded and its depth is kept', async () => {
  const frames = 2000
  const stack = await walk({
    symbols: `${FUNCTIONS}STACK CFI INIT 1000 200 .cfa: $rsp 8 + .ra: .cfa -8 + ^\n`, registers: { rip: IN_CRASH, rsp: STACK },
    words: [...Array.from({ length: frames }, (_, index) => (index % 2 === 0 ? IN_PARSE : CODE + 0x1060n)), IN_START],
  })
  expect(stack.frames.map((frame) => [frame.depth, frame.symbol?.function, frame.repeats])).toEqual([
    [0, 'crash', 1], [1, 'parse', frames / 2], [2, 'crash', frames / 2], [frames + 1, '_start', 1],
  ])
  expect(stack.omitted).toBe(frames - 2)
})

test('frames past the caps are counted', async () => {
  const words = Array.from({ length: 3000 }, (_, index) => CODE + 0x1001n + BigInt((index * index) % 0xff))
  const drawn: Walked = { symbols: `${FUNCTIONS}STACK CFI INIT 1000 100 .cfa: $rsp 8 + .ra: .cfa -8 + ^\n`, registers: { rip: IN_CRASH, rsp: STACK }, words }
  const kept = await walk(drawn, { ...UNWIND_BUDGET, kept: 100 })
  expect(kept.frames).toHaveLength(100)
  expect(kept.frames.length + kept.omitted).toBe(3001)
  const walked = await walk(drawn, { ...UNWIND_BUDGET, walked: 50 })
  expect([walked.frames.length, walked.end]).toEqual([50, 'budget'])
})

test('a stack pointer that doesn\'t move ends the walk', async () => {
  const stack = await walk({ symbols: `${FUNCTIONS}STACK CFI INIT 1000 400 .cfa: $rsp .ra: $rip\n`, registers: { rip: IN_CRASH, rsp: STACK }, words: [0, 0] })
  expect(named(stack)).toEqual(['context crash'])
})

test.each([
  ['an operand is missing', '.cfa: $rsp +'], ['it divides by nothing', '.cfa: $rsp 0 /'], ['it aligns to no power of two', '.cfa: $rsp 3 @'],
  ['there is no such register', '.cfa: $xyz 8 +'], ['too much is left', '.cfa: $rsp $rsp 8 +'], ['it is endless', `.cfa: $rsp ${'1 + '.repeat(500)}`],
  ['it reads where nothing is', '.cfa: 12345 ^'], ['it is undefined', '.cfa: .undef'],
])('a rule does nothing when %s', async (_, rule) => {
  const stack = await walk({ symbols: `${FUNCTIONS}STACK CFI INIT 1000 100 ${rule} .ra: .cfa -8 + ^\n`, registers: { rip: IN_CRASH, rsp: STACK }, words: [0, IN_PARSE] })
  expect(named(stack)).toEqual(['context crash', 'scan parse'])
})

test('arithmetic of rules wraps and aligns as the CPU does', async () => {
  // (sp + 13) aligned to 16 is STACK + 16; what follows adds 2, takes it away, doubles, halves, and adds 7 % 7.
  const stack = await walk({
    symbols: `${FUNCTIONS}STACK CFI INIT 1000 100 .cfa: $rsp 13 + 16 @ -1 2 * - 2 - 2 * 2 / 7 7 % + .ra: .cfa -8 + ^\n`,
    registers: { rip: IN_CRASH, rsp: STACK + 3n }, words: [0, IN_PARSE],
  })
  expect(named(stack)).toEqual(['context crash', 'cfi parse'])
})

test('a thread without registers or of an unknown CPU has no frames', async () => {
  expect((await walk({ symbols: FUNCTIONS, words: [] })).end).toBe('no-registers')
})

test('a return address below the size of a call wraps as the CPU does', async () => {
  const parsed = parseMinidump(drawMinidump({ cpu: 'arm', threads: [{ id: 1, registers: { sp: STACK }, stack: { base: STACK, bytes: drawWords([1, 0], 4) } }], modules: [{ base: 0n, size: 0x1000, name: 'firmware' }] }))
  if (!('dump' in parsed)) throw new Error(parsed.reason)
  // A thread that was switched out and whose program counter nobody kept.
  const thread = { ...parsed.dump.threads[0]!, registers: new Map([['sp', STACK]]) }
  const { frames } = await createUnwinder(parsed.dump, async () => null)(thread)
  expect(frames.map(({ address }) => address)).toEqual([0xffff_ffffn])
})

interface Walked { cpu?: Drawn['cpu']; symbols: string | null; registers?: Record<string, bigint>; words: (bigint | number)[]; width?: 4 | 8; memory?: Drawn['memory'] }

async function walk({ cpu = 'x86-64', symbols, registers, words, width = 8, memory }: Walked, budget: UnwindBudget = UNWIND_BUDGET): Promise<Stack> {
  const parsed = parseMinidump(drawMinidump({
    cpu, ...(memory ? { memory } : {}),
    threads: [{ id: 1, ...(registers ? { registers } : {}), stack: { base: STACK, bytes: drawWords(words, width) } }],
    modules: [{ base: CODE, size: 0x10000, name: 'sensord' }],
  }))
  if (!('dump' in parsed)) throw new Error(parsed.reason)
  const prepared = symbols === null ? null : parseBreakpadSym(Buffer.from(symbols))
  if (prepared && 'slug' in prepared) throw new Error(prepared.reason)
  const found: ModuleSymbols | null = prepared
  return createUnwinder(parsed.dump, async () => found, budget)(parsed.dump.threads[0]!)
}

function named(stack: Stack): string[] {
  return stack.frames.map((frame) => `${frame.trust} ${frame.symbol?.function ?? `0x${frame.address.toString(16)}`}`)
}
