import { z } from 'zod'

/** Every setting of the worker, with its default. Sizes in bytes, times in milliseconds. */
const bytes = z.int().positive()
const ms = z.int().positive()

export const sandboxSettingsSchema = z.object({
  children: z.int().positive().default(2).describe('Parsers that run side by side; with one, a slow dump holds up the others'),
  timeMs: ms.default(10_000).describe('Time that one dump may take; past it its parser is killed'),
  patienceMs: ms.default(1_000).describe('Time after which a dump is slow: its batch goes on without it, and it makes room for others'),
  memoryBytes: bytes.default(256 * 2 ** 20).describe('Memory that a parser may hold; past it it is killed'),
  answerBytes: bytes.default(4 * 2 ** 20).describe('Largest analysis of one dump'),
  inflateBytes: bytes.default(64 * 2 ** 20).describe('Most bytes that a compressed dump may inflate to'),
})

export const symbolSettingsSchema = z.object({
  maxFileBytes: bytes.default(256 * 2 ** 20).describe('Largest symbol file'),
  cacheBytes: bytes.default(2 * 2 ** 30).describe('Disk for prepared symbols; the least recently used go first'),
  prepareMs: ms.default(60_000).describe('Time that preparing one symbol file may take'),
  prepareMemoryBytes: bytes.default(1024 * 2 ** 20).describe('Memory that preparing one symbol file may take'),
  relistMs: ms.default(30_000).describe('How long an answer of the store, found or not, is believed before it is asked again'),
})

export const archiveSettingsSchema = z.object({
  dumpDays: z.number().positive().default(90).describe('Days for which dumps are kept'),
  manifestDays: z.number().positive().default(400).describe('Days for which signed manifests are kept once their dumps are gone'),
  sweepHours: z.number().positive().default(6).describe('How often one of the workers looks for what has reached its age and for what no crash names'),
})

export const workerSettingsSchema = z.object({
  group: z.string().default('symbolicate').describe('Consumer group'),
  batchEntries: z.int().positive().default(256).describe('Most crashes in one batch'),
  batchBytes: bytes.default(8 * 2 ** 20).describe('Most bytes of messages in one batch'),
  batchWaitMs: ms.default(200).describe('How long a batch waits for more'),
  stragglers: z.int().positive().default(64).describe('Slow dumps that may be under way while later batches go on'),
  claimWaitMs: ms.default(60_000).describe('How long a crash without a dump waits for the row of the crash that it names'),
  arrivalsMs: ms.default(2_000).describe('How often symbols that dashboards took are looked for'),
  retryMs: ms.default(200).describe('First wait before something that failed is tried again; doubled up to retryMaxMs'),
  retryMaxMs: ms.default(5_000).describe('Longest such wait'),
  sandbox: sandboxSettingsSchema.prefault({}),
  symbols: symbolSettingsSchema.prefault({}),
  archive: archiveSettingsSchema.prefault({}),
})

export type WorkerSettings = z.infer<typeof workerSettingsSchema>
export type SandboxSettings = WorkerSettings['sandbox']
export type SymbolSettings = WorkerSettings['symbols']
export type ArchiveSettings = WorkerSettings['archive']
