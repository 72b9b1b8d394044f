/**
 * Every file below the corpus' minidump folder, given to the front door as a device would: what can be walked is walked, and
 * what can't is refused with the slug that says why. No file is left out, so a new one must be put into its place here.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import { analyse } from '../../../symbolicate/analyse.ts'
import type { Analysis } from '../../../symbolicate/contract.ts'

const corpus = resolve(process.env.OVERRUN_CORPUS ?? resolve(import.meta.dirname, '../../../../shared/corpus'), 'minidump')
const here = existsSync(corpus)
test('the corpus is there wherever CI runs', () => expect(here || process.env.CI !== 'true', `${corpus} is missing: set OVERRUN_CORPUS`).toBe(true))

/** Dumps that carry nothing to walk. */
const REFUSED: Record<string, [slug: string, reason: string]> = {
  // Four streams, three of types that nobody knows; the list of maps has no line of a map.
  'rust-minidump/invalid-range.dmp': ['dump-malformed', 'minidump: neither a thread nor an exception'],
  // Mozilla's macOS stream claims records that aren't there; no thread, no exception.
  'rust-minidump/invalid-record-count.dmp': ['dump-truncated', expect.stringMatching(/^minidump: macCrashInfo: .* end past the file/) as string],
}
/** The dumps that are text. */
const MICRODUMPS = /^breakpad\/microdump-[\w-]+\.dmp$/

describe.skipIf(!here)(`files of ${corpus}${here ? '' : ' (absent)'}`, () => {
  const files = here ? readdirSync(corpus, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name).slice(corpus.length + 1)).toSorted() : []
  const dumps = files.filter((file) => file.endsWith('.dmp') && REFUSED[file] === undefined)

  test.each(dumps)('%s is walked', async (file) => {
    const { status, report } = await read(file)
    expect(status).toBe('ok')
    expect(report.format).toBe(MICRODUMPS.test(file) ? 'microdump' : 'minidump')
    expect(report.crashing_thread?.frames.length).toBeGreaterThan(0)
  })

  test.each(Object.entries(REFUSED))('%s is refused', async (file, [slug, reason]) => {
    expect(await read(file)).toMatchObject({ status: slug, statusReason: reason, report: { threads: [] } })
  })

  test.each(files.filter((file) => !file.endsWith('.dmp') && readFileSync(join(corpus, file)).length < 2 ** 20))('%s is no dump', async (file) => {
    const empty = readFileSync(join(corpus, file)).length === 0
    expect(await read(file)).toMatchObject({ status: empty ? 'dump-empty' : 'format-unknown', report: { threads: [] } })
  })

  const read = (file: string): Promise<Analysis> =>
    analyse({ bytes: readFileSync(join(corpus, file)), contentType: 'application/x-dmp', claims: {}, annotations: {} }, { symbols: { find: async () => ({ status: 'missing', reason: 'none' }) }, maps: { find: async () => null } })
})
