import { readFile, readdir } from 'node:fs/promises'
import { expect, test } from 'vitest'

const QUERIES = new URL('../../../dashboard/queries/', import.meta.url)

test('no value is ever put into the text of a query: only constants of ours, and never now()', async () => {
  const files = (await readdir(QUERIES)).filter((name) => name.endsWith('.ts'))
  let questions = 0
  for (const name of files) {
    const text = await readFile(new URL(name, QUERIES), 'utf8')
    for (const [, sql = ''] of text.matchAll(/`([^`]*\b(?:SELECT|FROM|WHERE)\b[^`]*)`/g)) {
      questions++
      const inserted = [...sql.matchAll(/\$\{([^}]*)\}/g)].map((match) => match[1])
      expect([name, inserted.filter((each) => !/^[A-Z_]+$/.test(each ?? ''))]).toEqual([name, []])
      expect([name, /\bnow(64)?\s*\(|\btoday\s*\(/i.test(sql)]).toEqual([name, false])
    }
  }
  expect(questions).toBeGreaterThan(20)
})
