/**
 * What the field knows about frames, as data: one text file a list, one name a line with its reason, sorted and unique
 * (a test holds this). A trailing `*` matches whatever follows; `library-source` holds parts of paths. `##` lines head the file.
 */
import { readFileSync } from 'node:fs'

export const LIST_NAMES = ['sentinel', 'wrappers', 'irrelevant', 'prefix', 'entry', 'c-library', 'library-source'] as const
export type ListName = (typeof LIST_NAMES)[number]
export interface Entry { pattern: string; why: string }

/** The entry that matches `name`, which is its own explanation; null where none does. */
export type Matcher = (name: string) => Entry | null

export function parseList(text: string): Entry[] {
  return text.split('\n').filter((line) => line !== '' && !line.startsWith('##')).map((line) => {
    const at = line.indexOf('  # ')
    return { pattern: (at < 0 ? line : line.slice(0, at)).trimEnd(), why: at < 0 ? '' : line.slice(at + 4) }
  })
}

export const readList = (name: ListName): string => readFileSync(new URL(`lists/${name}.txt`, import.meta.url), 'utf8')

export const LISTS = Object.fromEntries(LIST_NAMES.map((name) => [name, (name === 'library-source' ? partMatcherOf : matcherOf)(parseList(readList(name)))])) as Record<ListName, Matcher>

function matcherOf(entries: Entry[]): Matcher {
  const exact = new Map(entries.filter(({ pattern }) => !pattern.endsWith('*')).map((entry) => [entry.pattern, entry]))
  const prefixes = entries.filter(({ pattern }) => pattern.endsWith('*')).map((entry) => ({ start: entry.pattern.slice(0, -1), entry }))
  return (name) => exact.get(name) ?? prefixes.find(({ start }) => name.startsWith(start))?.entry ?? null
}

function partMatcherOf(entries: Entry[]): Matcher {
  return (path) => entries.find(({ pattern }) => path.includes(pattern)) ?? null
}
