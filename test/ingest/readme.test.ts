import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { z } from 'zod'
import { ingestSettingsSchema } from '../../ingest/config.ts'

type Property = { description?: string; default?: unknown; properties?: Record<string, Property> }

function rowsOf(properties: Record<string, Property>, path = ''): string[] {
  return Object.entries(properties).flatMap(([name, property]) => (property.properties
    ? rowsOf(property.properties, `${path}${name}.`)
    : [`| \`${path}${name}\` | ${shown(property.default)} | ${property.description} |`]))
}

const shown = (value: unknown): string => (typeof value === 'number' ? value.toLocaleString('en-US') : typeof value === 'string' ? value : 'none')

test("the README's table of settings is the one that config.ts makes", () => {
  const readme = readFileSync(join(import.meta.dirname, '../../ingest/README.md'), 'utf8')
  const schema = z.toJSONSchema(ingestSettingsSchema, { io: 'input' }) as Property
  expect(readme).toContain(`| setting | default | |\n|---|---|---|\n${rowsOf(schema.properties!).join('\n')}\n`)
})
