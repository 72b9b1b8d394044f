import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { sandboxSettingsSchema, symbolSettingsSchema } from '../../../symbolicate/config.ts'
import { createProcessor } from '../../../symbolicate/process.ts'
import { createPool } from '../../../symbolicate/sandbox/pool.ts'
import { openSymbolFolder } from '../../../symbolicate/symbols/folder.ts'
import { quietLogger } from '../../infra/clickhouse-fixture.ts'

const corpus = resolve(process.env.OVERRUN_CORPUS ?? join(import.meta.dirname, '../../../../shared/corpus'), 'minidump')
if (!existsSync(corpus) && process.env.CI === 'true') throw new Error(`the corpus is not at ${corpus}`)
const dumps = existsSync(corpus) ? readdirSync(corpus, { recursive: true, encoding: 'utf8' }).filter((path) => path.endsWith('.dmp')) : []

test.skipIf(dumps.length === 0)('every dump of the corpus comes back from its child in the agreed shape, within the budgets, the same twice', async () => {
  const cacheDirectory = await mkdtemp(join(tmpdir(), 'overrun-sandbox-'))
  const settings = sandboxSettingsSchema.parse({})
  const kills: string[] = []
  const shared = { idleMs: null, cacheDirectory, logger: quietLogger, onKill: (why: string) => kills.push(why) }
  const pool = createPool({ ...shared, ...settings, size: 2 })
  const { prepareMs: timeMs, prepareMemoryBytes: memoryBytes, maxFileBytes: answerBytes } = symbolSettingsSchema.parse({})
  const preparers = createPool({ ...shared, size: 1, timeMs, patienceMs: timeMs, memoryBytes, answerBytes })
  onTestFinished(async () => {
    await Promise.all([pool.stop(), preparers.stop()])
    await rm(cacheDirectory, { recursive: true })
  })
  const symbols = await openSymbolFolder({ directory: join(corpus, 'symbols'), cacheDirectory, pool: preparers })
  const process = createProcessor({ pool, symbols, inflateBytes: settings.inflateBytes, metrics: null })
  const analyse = async (path: string) => process({ contentType: 'application/x-minidump', claims: {}, annotations: {}, load: async () => readFileSync(join(corpus, path)) }).analysis

  const killed = []
  for (const path of dumps.filter((dump) => statSync(join(corpus, dump)).size < 16 * 2 ** 20)) {
    const [first, second] = await Promise.all([analyse(path), analyse(path)])
    if (first.status === 'parser-killed' || first.status === 'budget-exceeded') killed.push([path, first.status, first.statusReason])
    expect(second, path).toEqual(first)
  }
  expect(killed).toEqual([])
  expect(kills).toEqual([])
}, 120_000)
