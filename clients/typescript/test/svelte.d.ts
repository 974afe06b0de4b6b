declare module "*.svelte" {
  const component: import("svelte").Component<{ replica: unknown; at: unknown }>;
  export default component;
}
