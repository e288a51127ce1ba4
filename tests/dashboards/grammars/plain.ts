// A type of Grafana's as JSON holds it: an enum of texts is its texts, and what may be absent stays so.
type Defined<T> = T extends undefined ? never : T;
export type Plain<T> = T extends string
  ? `${T}`
  : T extends (infer Item)[]
    ? Plain<Item>[]
    : T extends object
      ? { [Key in keyof T]: Plain<Defined<T[Key]>> | (undefined extends T[Key] ? undefined : never) }
      : T;
