import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { createPool } from '../../../symbolicate/sandbox/pool.ts'
import { quietLogger } from '../../infra/clickhouse-fixture.ts'

const dump = readFileSync(join(import.meta.dirname, '../../corpus/crashpad-x64/sensord.abort.dmp'))

test('a parser asks for a module once, and again as soon as the answer may be another', async () => {
  const pool = createPool({
    size: 1, timeMs: 10_000, patienceMs: 10_000, memoryBytes: 256 * 2 ** 20, answerBytes: 2 ** 20, idleMs: null, cacheDirectory: null, logger: quietLogger,
    onKill: (why) => { throw new Error(why) },
  })
  onTestFinished(() => pool.stop())
  const asked: string[] = []
  const symbols = async ({ debugFile }: { debugFile: string | null }) => {
    asked.push(debugFile ?? '')
    return { status: 'missing' as const, reason: `generation ${asked.length}` }
  }
  const analyse = async (generation: number) => {
    asked.length = 0
    const order = { t: 'analyse' as const, bytes: dump, contentType: 'application/x-minidump' as const, claims: {}, annotations: {}, inflateBytes: 1, generation }
    const end = await pool.run(async () => order, { symbols, map: async () => null }).end
    if (end.t !== 'analysis') throw new Error(JSON.stringify(end))
    return { asked: asked.map((path) => path.split('/').at(-1)), statuses: end.analysis.report.modules.map((module) => module.symbol_status) }
  }

  const first = await analyse(1)
  expect(first.asked.toSorted()).toEqual(['ld-linux-x86-64.so.2', 'libc.so.6', 'sensord'])
  expect(await analyse(1)).toEqual({ ...first, asked: [] })
  expect(await analyse(2)).toEqual(first)
})
