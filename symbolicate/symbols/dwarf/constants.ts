/** DWARF's numbers that are read here (DWARF 5, section 7, and GNU's extensions), by the names of the standard. */
export const TAG = {
  compileUnit: 0x11, subprogram: 0x2e, inlinedSubroutine: 0x1d, enumerationType: 0x04, subroutineType: 0x15, arrayType: 0x01, callSite: 0x48, gnuCallSite: 0x4109,
} as const

export const UNIT = { compile: 1, type: 2, partial: 3, skeleton: 4, splitCompile: 5, splitType: 6 } as const

/** The attributes that are read, in the order of their slots; `readDie` remembers where each lies. */
const ATTRIBUTES = [
  ['sibling', 0x01], ['name', 0x03], ['stmtList', 0x10], ['lowPc', 0x11], ['highPc', 0x12], ['language', 0x13], ['compDir', 0x1b], ['abstractOrigin', 0x31],
  ['specification', 0x47], ['ranges', 0x55], ['callFile', 0x58], ['callLine', 0x59], ['linkageName', 0x6e], ['strOffsetsBase', 0x72], ['addrBase', 0x73],
  ['rnglistsBase', 0x74], ['dwoName', 0x76], ['linkageName', 0x2007], ['dwoName', 0x2130], ['dwoId', 0x2131], ['rangesBase', 0x2132], ['addrBase', 0x2133],
] as const
export type Attribute = (typeof ATTRIBUTES)[number][0]

export const SLOT = Object.fromEntries([...new Set(ATTRIBUTES.map(([name]) => name))].map((name, slot) => [name, slot])) as Record<Attribute, number>
export const SLOTS = Object.keys(SLOT).length
export const SLOT_OF: ReadonlyMap<number, number> = new Map(ATTRIBUTES.map(([name, code]) => [code, SLOT[name]]))

export const FORM = {
  addr: 0x01, block2: 0x03, block4: 0x04, data2: 0x05, data4: 0x06, data8: 0x07, string: 0x08, block: 0x09, block1: 0x0a, data1: 0x0b, flag: 0x0c, sdata: 0x0d,
  strp: 0x0e, udata: 0x0f, refAddr: 0x10, ref1: 0x11, ref2: 0x12, ref4: 0x13, ref8: 0x14, refUdata: 0x15, indirect: 0x16, secOffset: 0x17, exprloc: 0x18,
  flagPresent: 0x19, strx: 0x1a, addrx: 0x1b, refSup4: 0x1c, strpSup: 0x1d, data16: 0x1e, lineStrp: 0x1f, refSig8: 0x20, implicitConst: 0x21, loclistx: 0x22,
  rnglistx: 0x23, refSup8: 0x24, strx1: 0x25, strx2: 0x26, strx3: 0x27, strx4: 0x28, addrx1: 0x29, addrx2: 0x2a, addrx3: 0x2b, addrx4: 0x2c,
  gnuAddrIndex: 0x1f01, gnuStrIndex: 0x1f02, gnuRefAlt: 0x1f20, gnuStrpAlt: 0x1f21,
} as const

/** Languages whose functions are known by mangled names: C++ of every year, Rust, D, Swift, Objective-C++. */
export const MANGLED_LANGUAGES: ReadonlySet<number> = new Set([0x04, 0x11, 0x13, 0x1a, 0x1c, 0x1e, 0x21, 0x2b])
