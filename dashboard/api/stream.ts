import { setTimeout as delay } from 'node:timers/promises'
import type { ServerResponse } from 'node:http'
import { messageOf } from '../../infra/service/errors.ts'
import { readMarks, type Mark } from '../queries/newest.ts'
import type { Api, ApiDeps } from './api.ts'
import type { Hint } from './contract.ts'
import { Refused } from './problems.ts'

/**
 * GET /api/v1/stream: server-sent events that only hint that something changed, so that pages ask again.
 * One poller for all pages, and none while no page is open. A page that comes back names the last hint that it saw
 * (Last-Event-ID) and gets what came after; when that is too long ago, or from before a restart, it gets `event *`: ask for everything.
 */
export interface Stream { stop(): void }

const KEPT = 256
const PING_MS = 15_000

export function streamRoutes(api: Api, deps: ApiDeps, onClients: (count: number) => void): Stream {
  const clients = new Set<ServerResponse>()
  const kept: { number: number; text: string }[] = []
  // Numbers of another run are never taken for ours.
  let number = Date.now() * 1000
  let polling: AbortController | null = null

  api.get('/api/v1/stream', { schema: { summary: 'Hints of changes, as server-sent events', tags: ['stream'], produces: ['text/event-stream'] } }, (request, reply) => {
    if (clients.size >= deps.settings.streams) throw new Refused('too-many-pages', `${clients.size} pages are told of changes already`)
    reply.hijack()
    const { raw } = reply
    raw.writeHead(200, { ...definedHeaders(reply.getHeaders()), 'content-type': 'text/event-stream', 'cache-control': 'no-store', 'x-accel-buffering': 'no' })
    raw.write(`retry: ${deps.settings.pollMs}\n\n${missed(request.headers['last-event-id'])}`)
    clients.add(raw)
    onClients(clients.size)
    raw.once('close', () => {
      clients.delete(raw)
      onClients(clients.size)
      if (clients.size === 0) stop()
    })
    if (polling === null) void poll()
  })

  return { stop: () => { stop(); for (const client of clients) client.destroy() } }

  function stop(): void {
    polling?.abort()
    polling = null
  }

  async function poll(): Promise<void> {
    const mine = (polling = new AbortController())
    let before: Map<string, Mark> | null = null
    let quietMs = 0
    while (!mine.signal.aborted) {
      try {
        const now = new Map((await readMarks(deps.clickhouse)).map((mark) => [`${mark.type} ${mark.fleet} ${mark.id}`, mark]))
        if (before !== null) for (const [key, mark] of now) if (before.get(key)?.mark !== mark.mark) tell({ type: mark.type, id: mark.id })
        before = now
      } catch (error) {
        deps.logger.warn({ stage: 'stream', error: messageOf(error) }, 'changes could not be looked for')
      }
      quietMs += deps.settings.pollMs
      if (quietMs >= PING_MS) {
        broadcast(': ping\n\n')
        quietMs = 0
      }
      await delay(deps.settings.pollMs, undefined, { signal: mine.signal, ref: false }).catch(() => {})
    }
  }

  function tell(hint: Hint): void {
    const text = eventText(++number, hint)
    kept.push({ number, text })
    if (kept.length > KEPT) kept.shift()
    broadcast(text)
  }

  /** A page that does not read what it is told is cut off; it comes back by itself. */
  function broadcast(text: string): void {
    for (const client of clients) {
      if (client.writableLength > 65_536) client.destroy()
      else client.write(text)
    }
  }

  function missed(lastSeen: string | string[] | undefined): string {
    if (typeof lastSeen !== 'string') return ''
    const last = Number(lastSeen)
    const oldest = kept[0]?.number ?? number
    if (last >= oldest - 1 && last <= number) return kept.filter((hint) => hint.number > last).map(({ text }) => text).join('')
    return eventText(number, { type: 'event', id: '*' })
  }
}

const eventText = (number: number, hint: Hint): string => `id: ${number}\nevent: ${hint.type}\ndata: ${JSON.stringify(hint)}\n\n`

const definedHeaders = (headers: Record<string, string | number | string[] | undefined>): Record<string, string | number | string[]> =>
  Object.fromEntries(Object.entries(headers).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])))
