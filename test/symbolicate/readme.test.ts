import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { z } from 'zod'
import { workerSettingsSchema } from '../../symbolicate/config.ts'
import { DEAD_LETTER_SLUGS } from '../../symbolicate/outcome.ts'

const readme = readFileSync(join(import.meta.dirname, '../../symbolicate/README.md'), 'utf8')

type Property = { description?: string; default?: unknown; properties?: Record<string, Property> }
function rows(schema: Property, prefix = ''): string[] {
  return Object.entries(schema.properties ?? {}).flatMap(([name, property]) => (
    property.properties ? rows(property, `${prefix}${name}.`) : [`| \`${prefix}${name}\` | ${String(property.default)} | ${property.description} |`]
  ))
}

test('the README lists every setting as config.ts has it', () => {
  const wanted = rows(z.toJSONSchema(workerSettingsSchema, { io: 'input' }) as Property)
  expect(wanted.length).toBeGreaterThan(15)
  expect(readme.split('\n').filter((line) => line.startsWith('| `')).filter((line) => !line.includes('dead letter:'))).toEqual(wanted)
})

test('the README says what each dead letter means', () => {
  for (const [slug, meaning] of Object.entries(DEAD_LETTER_SLUGS)) expect(readme).toContain(`- \`${slug}\`: ${meaning}`)
})
