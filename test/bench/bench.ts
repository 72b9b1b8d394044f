import { readdirSync } from 'node:fs'
import { join } from 'node:path'

/**
 * Runs the benchmarks: `npm run bench`, one of them: `npm run bench -- NAME`. Each is a file beside this one. `--json`
 * prints one object a line, { name, value, unit, baseline?, ratio?, aim? }; without it the same for people. `aim` is what the
 * ratio should reach. Figures of one
 * machine mean little by themselves, so what matters is printed against a target or a calibration of the same run.
 */
export interface Figure { name: string; value: number; unit: string; baseline?: number; ratio?: number; aim?: number }
export interface Benchmark { name: string; describe: string; run(print: (figure: Figure) => void): Promise<void> }

const names = process.argv.slice(2).filter((word) => !word.startsWith('--'))
const json = process.argv.includes('--json')

function print(figure: Figure): void {
  if (json) return console.log(JSON.stringify(figure))
  const against = figure.baseline === undefined ? '' : `  against ${rounded(figure.baseline)}${figure.ratio === undefined ? '' : ` = ${rounded(figure.ratio)}`}${figure.aim === undefined ? '' : ` (aim ${figure.aim})`}`
  console.log(`  ${figure.name.padEnd(44)} ${rounded(figure.value).padStart(10)} ${figure.unit.padEnd(12)}${against}`)
}

const rounded = (value: number): string => (Math.abs(value) >= 100 ? Math.round(value).toLocaleString('en-US') : value.toPrecision(3))

const benchmarks: Benchmark[] = []
for (const file of readdirSync(import.meta.dirname).filter((file) => file.endsWith('.ts') && file !== 'bench.ts').toSorted()) {
  benchmarks.push(await import(join(import.meta.dirname, file)) as Benchmark)
}

const chosen = names.length === 0 ? benchmarks : benchmarks.filter(({ name }) => names.includes(name))
if (chosen.length < names.length) {
  console.error(`bench: there are ${benchmarks.map(({ name }) => name).join(', ')}`)
  process.exit(2)
}
for (const { name, describe, run } of chosen) {
  if (!json) console.log(`${name}: ${describe}`)
  await run(print)
}
