import { existsSync, readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { describe, test } from 'vitest'

/** Third-party test suites lie outside the repository: OVERRUN_CORPUS, or ../shared/corpus beside the clone. */
const root = resolve(process.env.OVERRUN_CORPUS ?? resolve(import.meta.dirname, '../../../shared/corpus'), 'identity')

export const corpusFile = (name: string): Buffer => readFileSync(resolve(root, name))
export const corpusJson = <T>(name: string): T => JSON.parse(corpusFile(name).toString('utf8')) as T
export const corpusPath = (name: string): string => resolve(root, name)

/** Skipped by name where the corpus is absent; with CI=true its absence is a failure. */
export function describeWithCorpus(name: string, folder: string, body: () => void): void {
  if (existsSync(resolve(root, folder))) describe(name, body)
  else if (process.env.CI === 'true') test(`${name}: identity/${folder} is there`, () => { throw new Error(`${resolve(root, folder)} is missing: set OVERRUN_CORPUS`) })
  // Not the body: a skipped describe still runs it, to find its tests.
  else test.skip(`${name} (identity/${folder} is not there)`, () => {})
}
