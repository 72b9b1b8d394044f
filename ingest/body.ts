import type { Readable } from 'node:stream'
import type { Limits } from './config.ts'
import { refuse, type Refusal } from './outcome.ts'

/**
 * Reads a body that a stranger sends: chunk by chunk, on demand, so that what is not asked for stays in the sender's
 * socket. Somebody who stops sending, or trickles below `bytesPerSecond` once `manifestMs` are over, is refused; the
 * time-outs are about this machine, so they use its timers and not the story's clock.
 */
export interface BodyReader {
  /** The next bytes; null at the end. Never asked again after null or a refusal. */
  next(): Promise<Buffer | null | Refusal>
}

export function readBody(stream: Readable, limits: Limits): BodyReader {
  const started = performance.now()
  let received = 0
  let state: 'open' | 'ended' | 'broken' | 'silent' = 'open'
  let wake = () => {}

  const become = (next: typeof state) => {
    if (state === 'open') state = next
    wake()
  }
  stream.on('readable', () => wake())
  stream.on('end', () => become('ended'))
  stream.on('error', () => become('broken'))
  stream.on('close', () => become('broken'))

  const somethingHappens = () => new Promise<void>((resolve) => {
    const silence = setTimeout(() => become('silent'), limits.idleMs)
    wake = () => {
      clearTimeout(silence)
      resolve()
    }
  })

  return {
    async next() {
      for (;;) {
        const chunk = stream.read() as Buffer | null
        if (chunk !== null) {
          received += chunk.length
          const elapsed = performance.now() - started
          if (elapsed > limits.manifestMs + (received * 1000) / limits.bytesPerSecond) {
            return refuse('body-timeout', `body: ${received} bytes in ${Math.round(elapsed / 1000)} s, slower than ${limits.bytesPerSecond} bytes/s`)
          }
          return chunk
        }
        if (state === 'ended') return null
        if (state === 'broken' || stream.destroyed) return refuse('body-truncated', `body: the connection closed after ${received} bytes`)
        if (state === 'silent') return refuse('body-timeout', `body: nothing came for ${limits.idleMs} ms after ${received} bytes`)
        await somethingHappens()
      }
    },
  }
}
