import { readFileSync } from 'node:fs'
import { LRUCache } from 'lru-cache'
import { analyse } from '../analyse.ts'
import { messageOf } from '../../infra/service/errors.ts'
import type { SymbolLookup, SymbolSource } from '../symbols/source.ts'
import { inflate } from './inflate.ts'
import { openCached } from './opened.ts'
import { prepare } from './prepare.ts'
import { createFrameReader, send, type Answer, type Order } from './wire.ts'

/**
 * The parser's child: reads one order at a time from its standard input and answers on its standard output (wire.ts).
 * It has no environment, may read only the code and the symbol cache, and is killed by its warden at any moment.
 * Whatever a parser throws that isn't a result is a defect of ours: the child says so, and the dump is kept and marked.
 */
/** The parent is trusted; this only keeps a broken length from allocating the machine. */
const ORDER_BYTES = 512 * 2 ** 20
const answerBytes = Number(process.argv[2])
const pending: Order[] = []
let wake: (() => void) | null = null

async function next(): Promise<Order> {
  while (pending.length === 0) await new Promise<void>((resolve) => { wake = resolve })
  return pending.shift() as Order
}

function say(answer: Answer) {
  if (send(process.stdout, answer, answerBytes)) return
  send(process.stdout, { t: 'refused', status: 'budget-exceeded', reason: `answer of more than the ${answerBytes} bytes that are allowed` })
}

async function ask<T extends Order['t']>(question: Answer, wanted: T): Promise<Extract<Order, { t: T }>> {
  const turn = asking.then(async () => {
    say(question)
    const order = await next()
    if (order.t !== wanted) throw new Error(`expected ${wanted}, the parent said ${order.t}`)
    return order as Extract<Order, { t: T }>
  })
  asking = turn.catch(() => {})
  return turn
}
let asking: Promise<unknown> = Promise.resolve()

/** What the parent said of `generation`; the dumps that follow need not ask it again. */
const heard = new LRUCache<string, SymbolLookup>({ max: 4096 })
let generation = -1

const symbols: SymbolSource = {
  async find({ debugFile, debugId, codeId, elfSha256 = null, linked = false }): Promise<SymbolLookup> {
    const key = JSON.stringify([debugFile, debugId, codeId, elfSha256, linked])
    const known = heard.get(key)
    if (known !== undefined) return known
    const located = await ask({ t: 'symbols?', debugFile, debugId, codeId, elfSha256, linked }, 'symbols')
    if (located.status !== 'found') return remember(key, { status: located.status, reason: located.reason })
    const opened = openCached(located.path)
    return opened.status === 'found' ? remember(key, opened) : opened
  },
}

function remember(key: string, lookup: SymbolLookup): SymbolLookup {
  heard.set(key, lookup)
  return lookup
}

const maps = {
  async find(debugId: string): Promise<Uint8Array | null> {
    const { path } = await ask({ t: 'map?', debugId }, 'map')
    return path === null ? null : readFileSync(path)
  },
}

async function obey(order: Order): Promise<Answer> {
  switch (order.t) {
    case 'analyse': {
      const plain = inflate(order.bytes, order.claims.encoding, order.inflateBytes)
      if ('status' in plain) return { t: 'refused', ...plain }
      const { contentType, claims, annotations } = order
      if (order.generation !== generation) heard.clear()
      generation = order.generation
      return { t: 'analysis', analysis: await analyse({ bytes: plain.bytes, contentType, claims, annotations }, { symbols, maps }) }
    }
    case 'prepare':
      return prepare(order.bytes, order.name, order.others)
    case 'symbols':
    case 'map':
      throw new Error(`the parent said ${order.t} without being asked`)
  }
}

async function serve() {
  say({ t: 'ready' })
  for (;;) {
    const order = await next()
    try {
      say(await obey(order))
    } catch (error) {
      say({ t: 'refused', status: 'dump-malformed', reason: `parser failed, which is a defect to report: ${messageOf(error)}`.slice(0, 1000) })
    }
  }
}

const reader = createFrameReader(ORDER_BYTES)
process.stdin.on('data', (chunk: Buffer) => {
  pending.push(...(reader.push(chunk) as Order[]))
  wake?.()
})
process.stdin.on('end', () => process.exit(0))
void serve()
