/** A table of u32 rows that grows as it is filled: sizes that a symbol file claims are never allocated. */
export class Growing {
  readonly stride: number
  private words: Uint32Array
  private used = 0

  constructor(stride: number) {
    this.stride = stride
    this.words = new Uint32Array(stride * 256)
  }

  get count(): number {
    return this.used / this.stride
  }

  push(...row: number[]): void {
    const end = this.used + this.stride
    if (end > this.words.length) {
      const larger = new Uint32Array(Math.ceil(this.words.length * 1.5 / this.stride) * this.stride)
      larger.set(this.words)
      this.words = larger
    }
    for (let column = 0; column < this.stride; column++) this.words[this.used + column] = row[column]!
    this.used = end
  }

  get(row: number, column: number): number {
    return this.words[row * this.stride + column]!
  }

  set(row: number, column: number, value: number): void {
    this.words[row * this.stride + column] = value
  }

  /** A view, valid until the next push. */
  done(): Uint32Array {
    return this.words.subarray(0, this.used)
  }
}
