/**
 * A Breakpad symbol file of a given size, always the same: records in the proportions of a real Rust program with its
 * dependencies (4.2 MB: 1,600 functions with 41 lines and 23 inlined calls each, 5 names of inlined functions for each
 * function, 8 rows of unwind rules), names as long as there, addresses that ascend.
 */
const PER_FUNCTION = { lines: 41, inlines: 23, origins: 5, deltas: 7 }
const FILES = 2_000
const FUNCTION_BYTES = 0x400

export function symFile(bytes: number): Buffer {
  const random = createRandom(1)
  const name = (kind: string, number: number): string => {
    const words = Array.from({ length: 3 + random(4) }, () => WORDS[random(WORDS.length)]!)
    return `_ZN${[...words, `${kind}${number}`].map((word) => `${word.length}${word}`).join('')}17h${hex(random(2 ** 32)).padStart(16, '0')}E`
  }
  const files = Array.from({ length: FILES }, (_, number) => `FILE ${number} /build/registry/src/${WORDS[random(WORDS.length)]}-1.${random(90)}.0/src/${WORDS[random(WORDS.length)]}/part${number}.rs`)
  const head = [`MODULE Linux x86_64 ${'5A'.repeat(16)}0 bench`, ...files]
  const [origins, functions, rules]: string[][] = [[], [], []]
  let left = bytes - head.join('\n').length
  for (let count = 0; left > 0; count++) {
    const start = 0x1_0000 + count * FUNCTION_BYTES
    const own = {
      origins: Array.from({ length: PER_FUNCTION.origins }, (_, index) => `INLINE_ORIGIN ${count * PER_FUNCTION.origins + index} ${name('inner', index)}`),
      functions: [`FUNC ${hex(start)} ${hex(FUNCTION_BYTES)} 0 ${name('function', count)}`, ...inlines(random, start, (count + 1) * PER_FUNCTION.origins), ...lines(random, start)],
      rules: unwindRules(start),
    }
    origins!.push(...own.origins)
    functions!.push(...own.functions)
    rules!.push(...own.rules)
    for (const list of Object.values(own)) for (const line of list) left -= line.length + 1
  }
  return Buffer.from([...head, ...origins!, ...functions!, ...rules!, ''].join('\n'), 'latin1')
}

type Random = (below: number) => number

function lines(random: Random, start: number): string[] {
  const step = Math.floor(FUNCTION_BYTES / PER_FUNCTION.lines)
  return Array.from({ length: PER_FUNCTION.lines }, (_, index) => `${hex(start + index * step)} ${hex(step)} ${1 + random(4_000)} ${random(FILES)}`)
}

/** Four deep, each inside of the one before. */
function inlines(random: Random, start: number, origins: number): string[] {
  return Array.from({ length: PER_FUNCTION.inlines }, (_, index) => {
    const depth = index % 4
    const at = start + Math.floor(index / 4) * 0xa0 + depth * 8
    return `INLINE ${depth} ${1 + random(4_000)} ${random(FILES)} ${random(origins)} ${hex(at)} ${hex(0x80 - depth * 16)}`
  })
}

function unwindRules(start: number): string[] {
  const deltas = Array.from({ length: PER_FUNCTION.deltas }, (_, index) => `STACK CFI ${hex(start + 2 * index + 1)} .cfa: $rsp ${16 + 8 * index} + $r${12 + index % 4}: .cfa -${16 + 8 * index} + ^`)
  return [`STACK CFI INIT ${hex(start)} ${hex(FUNCTION_BYTES)} .cfa: $rsp 8 + .ra: .cfa -8 + ^`, ...deltas]
}

const WORDS = ['core', 'alloc', 'serde_json', 'tokio', 'runtime', 'collections', 'hash_map', 'option', 'iterator', 'future', 'stream', 'handshake', 'decode', 'poll_next', 'try_from', 'drop_in_place', 'with_capacity']

const hex = (value: number): string => value.toString(16)

/** A linear congruential generator (the constants of Numerical Recipes). */
function createRandom(seed: number): Random {
  let state = seed
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
}
