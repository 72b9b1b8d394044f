/** Each string once; latin-1 inside, so that the file's bytes come out as they went in. */
export class Strings {
  private readonly numbers = new Map<string, number>()
  private readonly list: string[] = []

  add(string: string): number {
    const known = this.numbers.get(string)
    if (known !== undefined) return known
    this.numbers.set(string, this.list.length)
    return this.list.push(string) - 1
  }

  get(number: number): string {
    return this.list[number]!
  }

  done(): { strings: Uint32Array; text: Uint8Array } {
    const starts = new Uint32Array(this.list.length + 1)
    this.list.forEach((string, index) => { starts[index + 1] = starts[index]! + string.length })
    const text = Buffer.alloc(starts[this.list.length]!)
    this.list.forEach((string, index) => text.write(string, starts[index]!, 'latin1'))
    return { strings: starts, text }
  }
}
