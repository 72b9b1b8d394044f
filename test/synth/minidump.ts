/**
 * Draws minidumps for tests, field by field in the order of the C structures (minidumpapiset.h, winnt.h CONTEXT, and
 * Breakpad's minidump_format.h). It shares no offset with the parser, so a wrong layout can't agree with itself.
 */
export interface Drawn {
  os?: 'linux' | 'windows' | 'macos' | 'android' | 'ios'
  cpu?: 'x86' | 'x86-64' | 'arm' | 'arm64' | 'arm64-old'
  bigEndian?: boolean
  osText?: string
  threads?: { id: number; name?: string; registers?: Record<string, bigint>; stack?: { base: bigint; bytes: Uint8Array } }[]
  modules?: { base: bigint; size: number; name: string; buildId?: Uint8Array; pdb?: { guid: Uint8Array; age: number; path: string } }[]
  unloaded?: { base: bigint; size: number; name: string }[]
  memory?: { base: bigint; bytes: Uint8Array }[]
  memory64?: { base: bigint; bytes: Uint8Array }[]
  memoryInfo?: { base: bigint; size: bigint; state: number; protection: number }[]
  exception?: { thread: number; code: number; flags?: number; address?: bigint; parameters?: bigint[]; registers?: Record<string, bigint> }
  pid?: number
  maps?: string
  breakpad?: { writer: number; requester: number }
  /** Seconds since the epoch, in the misc info. */
  startedAt?: number
  lsbRelease?: string
  cpuInfoText?: string
  /** Family, revision and number of CPUs in the system info; a vendor where it is an x86. */
  processor?: { level: number; revision: number; count: number; vendor?: string }
  macCrashInfo?: { version: bigint; thread: bigint; dialogMode: bigint; abortCause: bigint; strings: string[] }[]
  bootArguments?: string
  assertion?: { expression: string; function: string; file: string; line: number }
  annotations?: Record<string, string>
  moduleAnnotations?: Record<string, string>
  /** Messages without a name, of a module: what dyld leaves. */
  moduleMessages?: string[]
  /** A list's count as the file shall claim it. */
  claims?: Partial<Record<'threads' | 'modules' | 'memory', number>>
}

export function drawMinidump(drawn: Drawn): Uint8Array {
  const file = new Pen(drawn.bigEndian ?? false)
  const streams: [type: number, draw: () => Span][] = []
  const add = (type: number, wanted: unknown, draw: () => Span): void => { if (wanted !== undefined) streams.push([type, draw]) }

  add(7, true, () => drawSystem(file, drawn))
  add(3, drawn.threads, () => drawThreads(file, drawn))
  add(4, drawn.modules, () => drawModules(file, drawn))
  add(14, drawn.unloaded, () => drawUnloaded(file, drawn.unloaded!))
  add(5, drawn.memory, () => drawMemory(file, drawn))
  add(9, drawn.memory64, () => drawMemory64(file, drawn.memory64!))
  add(16, drawn.memoryInfo, () => drawMemoryInfo(file, drawn.memoryInfo!))
  add(24, drawn.threads?.some((thread) => thread.name !== undefined) || undefined, () => drawThreadNames(file, drawn.threads!))
  add(6, drawn.exception, () => drawException(file, drawn))
  add(15, drawn.pid ?? drawn.startedAt, () => file.span(() => { file.u32(24).u32((drawn.pid === undefined ? 0 : 1) | (drawn.startedAt === undefined ? 0 : 2)).u32(drawn.pid ?? 0).u32(drawn.startedAt ?? 0).u32(0).u32(0) }))
  add(0x47670001, drawn.breakpad, () => file.span(() => { file.u32(3).u32(drawn.breakpad!.writer).u32(drawn.breakpad!.requester) }))
  add(0x47670002, drawn.assertion, () => drawAssertion(file, drawn.assertion!))
  add(0x47670003, drawn.cpuInfoText, () => file.span(() => { file.raw(Buffer.from(drawn.cpuInfoText!)) }))
  add(0x47670005, drawn.lsbRelease, () => file.span(() => { file.raw(Buffer.from(drawn.lsbRelease!)) }))
  add(0x4d7a0001, drawn.macCrashInfo, () => drawMacCrashInfo(file, drawn.macCrashInfo!))
  add(0x4d7a0002, drawn.bootArguments, () => drawBootArguments(file, drawn.bootArguments!))
  add(0x47670009, drawn.maps, () => file.span(() => { file.raw(Buffer.from(drawn.maps!)) }))
  add(0x43500001, drawn.annotations ?? drawn.moduleAnnotations ?? drawn.moduleMessages, () => drawCrashpad(file, drawn))

  file.raw(Buffer.from(drawn.bigEndian ? 'PMDM' : 'MDMP')).u32(0xa793).u32(streams.length).u32(32).u32(0).u32(1_700_000_000).u64(0n)
  const directory = streams.map(([type]) => { file.u32(type); return file.locationLater() })
  streams.forEach(([, draw], index) => directory[index]!(draw()))
  return file.done()
}

interface Span { at: number; size: number }

/** Appends fields; places that are known later are patched. */
class Pen {
  private bytes: Uint8Array = new Uint8Array(4096)
  private length = 0
  private readonly bigEndian: boolean

  constructor(bigEndian: boolean) {
    this.bigEndian = bigEndian
  }

  private number(value: bigint, width: number): this {
    const order = Array.from({ length: width }, (_, index) => Number((value >> BigInt(8 * index)) & 0xffn))
    return this.raw(Uint8Array.from(this.bigEndian ? order.reverse() : order))
  }

  u16(value: number): this { return this.number(BigInt(value), 2) }
  u32(value: number): this { return this.number(BigInt(value >>> 0), 4) }
  u64(value: bigint): this { return this.number(value, 8) }
  zero(count: number): this { return this.raw(new Uint8Array(count)) }

  raw(bytes: Uint8Array): this {
    while (this.length + bytes.length > this.bytes.length) {
      const grown = new Uint8Array(this.bytes.length * 2)
      grown.set(this.bytes)
      this.bytes = grown
    }
    this.bytes.set(bytes, this.length)
    this.length += bytes.length
    return this
  }

  span(draw: () => void): Span {
    this.zero((8 - (this.length % 8)) % 8)
    const at = this.length
    draw()
    return { at, size: this.length - at }
  }

  private patch(at: number, value: number): void {
    const order = [value & 255, (value >>> 8) & 255, (value >>> 16) & 255, value >>> 24]
    this.bytes.set(this.bigEndian ? order.reverse() : order, at)
  }

  rvaLater(): (span: Span) => void {
    const at = this.length
    this.u32(0)
    return (span) => this.patch(at, span.at)
  }

  /** MINIDUMP_LOCATION_DESCRIPTOR: DataSize, Rva. */
  locationLater(): (span: Span) => void {
    const at = this.length
    this.u32(0).u32(0)
    return (span) => { this.patch(at, span.size); this.patch(at + 4, span.at) }
  }

  utf16(text: string): Span {
    return this.span(() => { this.u32(text.length * 2); for (let index = 0; index < text.length; index++) this.u16(text.charCodeAt(index)); this.u16(0) })
  }

  utf8(text: string): Span {
    const bytes = Buffer.from(text)
    return this.span(() => { this.u32(bytes.length).raw(bytes).zero(1) })
  }

  done(): Uint8Array { return this.bytes.slice(0, this.length) }
}

const ARCHITECTURES = { x86: 0, arm: 5, 'x86-64': 9, arm64: 12, 'arm64-old': 0x8003 }
const PLATFORMS = { windows: 2, macos: 0x8101, ios: 0x8102, linux: 0x8201, android: 0x8203 }

function drawSystem(file: Pen, { os = 'linux', cpu = 'x86-64', osText, processor = { level: 6, revision: 0, count: 4 } }: Drawn): Span {
  let text: (span: Span) => void = () => {}
  const span = file.span(() => {
    file.u16(ARCHITECTURES[cpu]).u16(processor.level).u16(processor.revision).raw(Uint8Array.of(processor.count, 1))
    file.u32(os === 'windows' ? 10 : 0).u32(0).u32(os === 'windows' ? 19042 : 0).u32(PLATFORMS[os])
    text = file.rvaLater()
    file.u16(0).u16(0).raw(Buffer.from((processor.vendor ?? '').padEnd(12, '\0'))).zero(12)
  })
  if (osText !== undefined) text(file.utf16(osText))
  return span
}

function drawThreads(file: Pen, { threads = [], cpu = 'x86-64', claims }: Drawn): Span {
  const later: (() => void)[] = []
  const span = file.span(() => {
    file.u32(claims?.threads ?? threads.length)
    for (const thread of threads) {
      file.u32(thread.id).u32(0).u32(0).u32(0).u64(0n)
      file.u64(thread.stack?.base ?? 0n)
      const stack = file.locationLater()
      const context = file.locationLater()
      if (thread.stack) later.push(() => stack(file.span(() => { file.raw(thread.stack!.bytes) })))
      if (thread.registers) later.push(() => context(drawContext(file, cpu, thread.registers!)))
    }
  })
  later.forEach((draw) => draw())
  return span
}

function drawContext(file: Pen, cpu: NonNullable<Drawn['cpu']>, registers: Record<string, bigint>): Span {
  const all = (names: string): bigint[] => names.split(' ').map((name) => registers[name] ?? 0n)
  return file.span(() => {
    switch (cpu) {
      case 'x86-64':
        // P1Home to P6Home, ContextFlags, MxCsr, six segments, EFlags, Dr0-3 6 7, the registers, FltSave and vectors.
        file.zero(48).u32(0x10000f).u32(0).u16(0x33).u16(0).u16(0).u16(0).u16(0).u16(0x2b).u32(0x246).zero(48)
        for (const value of all('rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15 rip')) file.u64(value)
        file.zero(512 + 26 * 16 + 8 + 5 * 8)
        break
      case 'x86':
        // ContextFlags, Dr0-3 6 7, FLOATING_SAVE_AREA, then segments and registers as winnt.h has them.
        file.u32(0x1003f).zero(24).zero(112)
        for (const value of all('gs fs es ds edi esi ebx edx ecx eax ebp eip cs eflags esp ss')) file.u32(Number(value))
        file.zero(512)
        break
      case 'arm':
        file.u32(0x4000000f)
        for (const value of all('r0 r1 r2 r3 r4 r5 r6 r7 r8 r9 r10 fp r12 sp lr pc cpsr')) file.u32(Number(value))
        file.zero(8 + 32 * 8 + 32)
        break
      case 'arm64':
      case 'arm64-old':
        if (cpu === 'arm64') file.u32(0x400007).u32(0)
        else file.u64(0x80000006n)
        for (const value of all(`${Array.from({ length: 29 }, (_, number) => `x${number}`).join(' ')} fp lr sp pc`)) file.u64(value)
        file.zero(cpu === 'arm64' ? 640 : 524)
    }
  })
}

function drawModules(file: Pen, { modules = [], claims }: Drawn): Span {
  const later: (() => void)[] = []
  const span = file.span(() => {
    file.u32(claims?.modules ?? modules.length)
    for (const module of modules) {
      file.u64(module.base).u32(module.size).u32(0).u32(0x5f000000)
      const name = file.rvaLater()
      later.push(() => name(file.utf16(module.name)))
      // VS_FIXEDFILEINFO: signature, structure version, file version 1.2.3.4, and nine more.
      file.u32(0xfeef04bd).u32(0x10000).u32(0x10002).u32(0x30004).zero(36)
      const cv = file.locationLater()
      file.u32(0).u32(0).u64(0n).u64(0n)
      if (module.buildId) later.push(() => cv(file.span(() => { file.u32(0x4270454c).raw(module.buildId!) })))
      if (module.pdb) later.push(() => cv(file.span(() => { file.u32(0x53445352).raw(module.pdb!.guid).u32(module.pdb!.age).raw(Buffer.from(`${module.pdb!.path}\0`)) })))
    }
  })
  later.forEach((draw) => draw())
  return span
}

function drawUnloaded(file: Pen, unloaded: NonNullable<Drawn['unloaded']>): Span {
  const later: (() => void)[] = []
  const span = file.span(() => {
    file.u32(12).u32(24).u32(unloaded.length)
    for (const module of unloaded) {
      file.u64(module.base).u32(module.size).u32(0).u32(0x5f000000)
      const name = file.rvaLater()
      later.push(() => name(file.utf16(module.name)))
    }
  })
  later.forEach((draw) => draw())
  return span
}

function drawMemory(file: Pen, { memory = [], claims }: Drawn): Span {
  const later: (() => void)[] = []
  const span = file.span(() => {
    file.u32(claims?.memory ?? memory.length)
    for (const range of memory) {
      file.u64(range.base)
      const where = file.locationLater()
      later.push(() => where(file.span(() => { file.raw(range.bytes) })))
    }
  })
  later.forEach((draw) => draw())
  return span
}

function drawMemory64(file: Pen, memory: NonNullable<Drawn['memory64']>): Span {
  const bytes = file.span(() => { for (const range of memory) file.raw(range.bytes) })
  return file.span(() => {
    file.u64(BigInt(memory.length)).u64(BigInt(bytes.at))
    for (const range of memory) file.u64(range.base).u64(BigInt(range.bytes.length))
  })
}

function drawMemoryInfo(file: Pen, regions: NonNullable<Drawn['memoryInfo']>): Span {
  return file.span(() => {
    file.u32(16).u32(48).u64(BigInt(regions.length))
    for (const region of regions) file.u64(region.base).u64(region.base).u32(region.protection).u32(0).u64(region.size).u32(region.state).u32(region.protection).u32(0x20000).u32(0)
  })
}

function drawThreadNames(file: Pen, threads: NonNullable<Drawn['threads']>): Span {
  const names = threads.filter((thread) => thread.name !== undefined).map((thread) => ({ id: thread.id, span: file.utf16(thread.name!) }))
  return file.span(() => {
    file.u32(names.length)
    for (const { id, span } of names) file.u32(id).u64(BigInt(span.at))
  })
}

function drawException(file: Pen, { exception, cpu = 'x86-64' }: Drawn): Span {
  const { thread, code, flags = 0, address = 0n, parameters = [], registers } = exception!
  let context: (span: Span) => void = () => {}
  const span = file.span(() => {
    file.u32(thread).u32(0).u32(code).u32(flags).u64(0n).u64(address).u32(parameters.length).u32(0)
    for (let index = 0; index < 15; index++) file.u64(parameters[index] ?? 0n)
    context = file.locationLater()
  })
  if (registers) context(drawContext(file, cpu, registers))
  return span
}

function drawAssertion(file: Pen, assertion: NonNullable<Drawn['assertion']>): Span {
  return file.span(() => {
    for (const text of [assertion.expression, assertion.function, assertion.file]) for (let index = 0; index < 128; index++) file.u16(text.charCodeAt(index) || 0)
    file.u32(assertion.line).u32(1)
  })
}

/** Breakpad's minidump_format.h: MDRawMacCrashInfo and its records, whose strings follow a fixed part of 40 bytes. */
function drawMacCrashInfo(file: Pen, records: NonNullable<Drawn['macCrashInfo']>): Span {
  const spans = records.map(({ version, thread, dialogMode, abortCause, strings }) => file.span(() => {
    file.u64(0x4d7a0001n).u64(version).u64(thread).u64(dialogMode).u64(abortCause)
    for (const text of strings) file.raw(Buffer.from(`${text}\0`))
  }))
  return file.span(() => {
    file.u32(0x4d7a0001).u32(records.length).u32(40)
    for (let index = 0; index < 20; index++) {
      const span = spans[index]
      if (span) file.locationLater()(span)
      else file.u32(0).u32(0)
    }
  })
}

function drawBootArguments(file: Pen, text: string): Span {
  const string = file.utf16(text)
  return file.span(() => { file.u32(0x4d7a0002).u64(BigInt(string.at)) })
}

function drawCrashpad(file: Pen, { annotations = {}, moduleAnnotations, moduleMessages = [] }: Drawn): Span {
  const strings = Object.entries(annotations).map(([key, value]) => [file.utf8(key), file.utf8(value)] as const)
  const simple = file.span(() => { file.u32(strings.length); for (const [key, value] of strings) file.u32(key.at).u32(value.at) })
  const values = Object.entries(moduleAnnotations ?? {}).map(([key, value]) => [file.utf8(key), file.utf8(value)] as const)
  const objects = file.span(() => { file.u32(values.length); for (const [key, value] of values) file.u32(key.at).u16(1).u16(0).u32(value.at) })
  const messages = moduleMessages.map((text) => file.utf8(text))
  const list = file.span(() => { file.u32(messages.length); for (const message of messages) file.u32(message.at) })
  const module = file.span(() => {
    file.u32(1)
    if (messages.length > 0) file.locationLater()(list)
    else file.u32(0).u32(0)
    file.u32(0).u32(0)
    file.locationLater()(objects)
  })
  const links = file.span(() => { file.u32(1).u32(0); file.locationLater()(module) })
  return file.span(() => {
    file.u32(1).zero(16).zero(16)
    file.locationLater()(simple)
    if (moduleAnnotations || messages.length > 0) file.locationLater()(links)
    else file.u32(0).u32(0)
  })
}

/** Stack memory from words, lowest address first. */
export function drawWords(words: (bigint | number)[], width: 4 | 8 = 8): Uint8Array {
  const bytes = new Uint8Array(words.length * width)
  const view = new DataView(bytes.buffer)
  words.forEach((word, index) => (width === 8 ? view.setBigUint64(index * 8, BigInt(word), true) : view.setUint32(index * 4, Number(word), true)))
  return bytes
}
