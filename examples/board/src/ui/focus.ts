/** A ref: the field that the user came for, or just asked for, has the focus. */
export function focus(field: HTMLElement | null): void {
  field?.focus();
}
