import { globSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { expect, test } from 'vitest'

/** Imports run against the flow of a crash: dashboard -> symbolicate -> ingest -> infra. */
const ROOT = join(import.meta.dirname, '..')
const ORDER = ['infra', 'ingest', 'symbolicate', 'dashboard']

const imports = ORDER.flatMap((folder) => globSync(`${folder}/**/*.{ts,tsx}`, { cwd: ROOT, exclude: (name) => name === 'dist' }).flatMap((file) =>
  Array.from(readFileSync(join(ROOT, file), 'utf8').matchAll(/(?:from|import)\s*\(?\s*'(\.{1,2}\/[^']+)'/g), ([, target = '']) => ({ file, target: relative(ROOT, join(ROOT, dirname(file), target)) }))))

test('nothing imports what comes after it', () => {
  expect(imports.length).toBeGreaterThan(300)
  const after = imports.filter(({ file, target }) => ORDER.indexOf(target.split('/')[0]!) > ORDER.indexOf(file.split('/')[0]!))
  expect(after.map(({ file, target }) => `${file} imports ${target}`)).toEqual([])
})

test('what people and devices run imports no test', () => {
  expect(imports.filter(({ target }) => target.startsWith('test/') || target.startsWith('..'))).toEqual([])
})
