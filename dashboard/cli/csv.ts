/**
 * A table of text (RFC 4180): the first line names the columns, in any order; fields may be quoted, "" is a quote, and a
 * quoted field may hold commas and line breaks. Anything else is refused with its line, never guessed.
 */
export interface Table { columns: string[]; rows: { line: number; fields: string[] }[] }

export function parseCsv(text: string): Table | { fault: string } {
  const rows: Table['rows'] = []
  let [at, line] = [text.startsWith('\ufeff') ? 1 : 0, 1]
  while (at < text.length) {
    const row: Table['rows'][number] = { line, fields: [] }
    for (let more = true; more;) {
      const field = text[at] === '"' ? quoted(text, at) : plain(text, at)
      if (field === null) return { fault: `line ${line}: a quote that is not closed, or stands inside a field` }
      row.fields.push(field.value)
      line += text.slice(at, field.end).split('\n').length - 1
      at = field.end
      more = text[at] === ','
      if (more) at++
    }
    const end = /\r?\n|$/y
    end.lastIndex = at
    const found = end.exec(text)
    if (found === null) return { fault: `line ${line}: text after a quoted field` }
    at += found[0].length
    line++
    if (row.fields.length > 1 || row.fields[0] !== '') rows.push(row)
  }
  const [head, ...body] = rows
  if (head === undefined) return { fault: 'line 1: the names of the columns are missing' }
  const odd = body.find(({ fields }) => fields.length !== head.fields.length)
  if (odd) return { fault: `line ${odd.line}: ${odd.fields.length} fields, ${head.fields.length} expected` }
  return { columns: head.fields.map((name) => name.trim().toLowerCase()), rows: body }
}

function plain(text: string, from: number): { value: string; end: number } | null {
  const end = /[,\r\n]|$/g
  end.lastIndex = from
  const at = end.exec(text)!.index
  const value = text.slice(from, at)
  return value.includes('"') ? null : { value, end: at }
}

function quoted(text: string, from: number): { value: string; end: number } | null {
  for (let at = from + 1; at < text.length; at++) {
    if (text[at] !== '"') continue
    if (text[at + 1] !== '"') return { value: text.slice(from + 1, at).replaceAll('""', '"'), end: at + 1 }
    at++
  }
  return null
}
