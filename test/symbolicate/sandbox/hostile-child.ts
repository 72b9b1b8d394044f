import { readFileSync, writeFileSync } from 'node:fs'
import { spawnSync } from 'node:child_process'
import { Worker } from 'node:worker_threads'
import { createFrameReader, frame } from '../../../symbolicate/sandbox/wire.ts'

/** A parser that somebody took over: the order's bytes say what it tries. */
const held: Uint8Array[] = []
const attempt = (work: () => unknown): string => {
  try {
    return `did: ${String(work())}`
  } catch (error) {
    return (error as { code?: string }).code ?? String(error)
  }
}
const answer = (value: unknown) => frame({ t: 'refused', status: 'dump-malformed', reason: JSON.stringify(value) })
const say = (value: unknown) => process.stdout.write(answer(value))

const deeds: Record<string, () => void> = {
  ok: () => say('ok'),
  escape: () => say({
    read: attempt(() => readFileSync('/etc/passwd').length),
    write: attempt(() => writeFileSync('/tmp/overrun-escaped', 'x')),
    spawn: attempt(() => spawnSync('/bin/true').error ?? 'ran'),
    thread: attempt(() => new Worker('1', { eval: true })),
    eval: attempt(() => new Function('return 1')()),
    environment: Object.keys(process.env).length,
  }),
  spin: () => { for (;;); },
  hog: () => { for (;;) held.push(new Uint8Array(8 * 2 ** 20).fill(1)) },
  die: () => process.exit(7),
  lie: () => process.stdout.write(frame({ t: 'analysis', analysis: { status: 'ok', evidence: { faultAddress: null, pc: null, sp: null } } } as never)),
  garbage: () => process.stdout.write(Buffer.from([0, 0, 0, 4, 0xff, 0xff, 0xff, 0xff])),
  huge: () => process.stdout.write(Buffer.from([0x7f, 0xff, 0xff, 0xff, 0x40])),
  ask: () => { for (let i = 0; i < 20_000; i++) process.stdout.write(frame({ t: 'map?', debugId: String(i) })) },
  twice: () => process.stdout.write(Buffer.concat([answer('first'), answer('second')])),
}

const reader = createFrameReader(2 ** 20)
process.stdin.on('data', (chunk: Buffer) => {
  for (const order of reader.push(chunk) as { t: string; bytes: Uint8Array }[]) if (order.t === 'analyse') deeds[Buffer.from(order.bytes).toString()]?.()
})
process.stdin.on('end', () => process.exit(0))
process.stdout.write(frame({ t: 'ready' }))
